"""Which points are drawn in which panel."""

import itertools

from slot_attention.figures import curves


def _rows(slots, iterations, objects):
  return [
    {
      "num_slots": k,
      "num_iterations": t,
      "num_objects": n,
      "eval/ari": 100 * k + 10 * t + (0 if n == "all" else n),
    }
    for k, t, n in itertools.product(slots, iterations, objects)
  ]


def _panel(rows, key, spreads=None):
  chosen = curves._hold(rows, key)
  return curves._lines(rows, chosen, key, "eval/ari", spreads)


def test_against_iterations_a_line_per_number_of_slots():
  lines = _panel(_rows([7, 11], [1, 3], ["all", 3, 4]), "num_iterations")
  assert lines == {
    "K = 7": ([1, 3], [710, 730], None),
    "K = 11": ([1, 3], [1110, 1130], None),
  }


def test_against_slots_a_line_per_number_of_iterations():
  lines = _panel(_rows([11, 7], [1, 3], ["all", 3]), "num_slots")
  assert lines == {
    "T = 1": ([7, 11], [710, 1110], None),
    "T = 3": ([7, 11], [730, 1130], None),
  }


def test_against_objects_at_the_last_number_of_iterations():
  lines = _panel(_rows([7, 11], [1, 3], ["all", 3, 4]), "num_objects")
  assert lines == {
    "K = 7, T = 3": ([3, 4], [733, 734], None),
    "K = 11, T = 3": ([3, 4], [1133, 1134], None),
  }
  lines = _panel(_rows([7], [1, 3], ["all", 3, 4]), "num_objects")
  assert list(lines) == ["K = 7, T = 1", "K = 7, T = 3"]


def test_bars_and_missing_points():
  rows = _rows([7, 9, 11], [3], ["all"])
  del rows[1]["eval/ari"]
  spreads = [{"eval/ari": 0.5}, {}, {"eval/ari": None}]
  lines = _panel(rows, "num_slots", spreads)
  assert lines == {"T = 3": ([7, 11], [730, 1130], [0.5, 0.0])}
