"""Tables and comparisons of measurements that are given here."""

import pytest

from slot_attention.benchmarking import report

TIMES = {
  "median": 0.5,
  "first_quartile": 0.25,
  "third_quartile": 12.34567,
}
STEP = {
  "batch_size": 4,
  "seconds": TIMES,
  "seconds_one_by_one": TIMES,
  "matrix_rate": 4e10,
  "share_of_matrix_rate": 0.2,
  "flops": 4e9,
  "num_bytes": 1e9,
  "xla_flops": 6e9,
  "memory": {"arguments": 0, "temporary": 2**29, "total": 2**30},
  "memory_used": {"device_peak": None, "process_peak": 3 * 2**30},
  "compile_seconds": 1.23,
}


def test_floor_is_the_slower_of_products_and_copies():
  by_products = report.compare(STEP, 1e11)
  assert by_products == {
    "images_per_second": 8.0,
    "flops_per_second": 8e9,
    "floor_seconds": pytest.approx(0.1),
    "floor_by": "products",
    "over_floor": pytest.approx(5.0),
  }
  by_copies = report.compare(STEP, 4e9)
  assert by_copies["floor_by"] == "copies"
  assert by_copies["floor_seconds"] == pytest.approx(0.25)
  assert by_copies["over_floor"] == pytest.approx(2.0)


def test_table_of_steps():
  step = STEP | report.compare(STEP, 1e11)
  table = report.steps_table({"train step": step, "eval step": step})
  rows = {}
  for line in table.splitlines():
    name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
    rows[name] = cells
  assert len({len(line) for line in table.splitlines()}) == 1
  assert rows[""] == ["train step", "eval step"]
  for name, text in {
    "ms per step, median": "500.0",
    "quartiles": "250.0 to 12346",
    "GFLOP per image": "1",
    "GFLOP per image, XLA's count": "1.5",
    "images/s": "8",
    "TFLOP/s": "0.008",
    "TFLOP/s of matrices between": "0.04",
    "share of matrix rate": "20.0%",
    "time / floor": "5 (products)",
    "GiB planned, temporary": "0.5",
    "GiB planned, total": "1",
    "GiB used, device": "-",
    "GiB used, process": "3",
  }.items():
    assert rows[name] == [text, text], name


def test_table_of_memory():
  row = {
    "variant": {"batch_size": 4, "model.num_slots": 7},
    "memory": None,
    "flops": 2e9,
    "xla_flops": 3e9,
    "compile_seconds": 2.0,
  }
  table = report.memory_table([row, row | {"memory": STEP["memory"]}])
  header, _, unknown, known = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in table.splitlines()
  ]
  assert header[:4] == ["batch_size", "num_slots", "temporary GiB", "total GiB"]
  assert unknown == ["4", "7", "-", "-", "2", "3", "2.0 s"]
  assert known[2:4] == ["0.5", "1"]


@pytest.mark.parametrize(("rate", "keeps_up"), [(2.0, True), (1.9, False)])
def test_whether_the_input_keeps_up(rate, keeps_up):
  result = {
    "source": "clevr",
    "batch_size": 4,
    "batches_per_second": rate,
    "images_per_second": 4 * rate,
  }
  assert "keeps up" not in report.describe_input(result)
  result |= report.compare_input(result, STEP, 0.75)
  assert result["keeps_up"] == keeps_up
  assert result["together_over_step"] == 1.5
  text = report.describe_input(result)
  assert f"keeps up: {'yes' if keeps_up else 'no'}." in text
  assert "a step takes 750.0 ms, 1.5 times as long" in text
