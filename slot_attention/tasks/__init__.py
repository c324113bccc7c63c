"""The tasks, by the name that `config.task` takes."""

import ml_collections

from slot_attention.tasks import base
from slot_attention.tasks import dinosaur
from slot_attention.tasks import object_discovery
from slot_attention.tasks import set_prediction
from slot_attention.tasks import slate

TASKS = {
  "dinosaur": dinosaur.Dinosaur,
  "object_discovery": object_discovery.ObjectDiscovery,
  "set_prediction": set_prediction.SetPrediction,
  "slate": slate.Slate,
}


def create_task(config: ml_collections.ConfigDict) -> base.Task:
  """Builds the task that `config.task` names."""
  return TASKS[config.task](config)
