"""Insertion by rule: every index kept right, channel counts included, mistakes named."""

import subprocess
import sys

import pytest
import torch

from models import insert
from models.insertion import insert_layers, parse_rule
from models.parser import unread_rows
from models.yolo import Model
from utils.errors import UserError
from utils.files import ROOT, read_yaml, write_yaml

YOLOV5S = read_yaml(ROOT / "models/yolov5s.yaml")
ALL_YAMLS = sorted(path for path in (ROOT / "models").rglob("*.yaml") if path.name != "anchors.yaml")


def rows_of(config: dict) -> list:
    return [*config["backbone"], *config["head"]]


def inserted(*rules: str, base: dict = YOLOV5S) -> list:
    return rows_of(insert_layers(base, rules, "yolov5s.yaml"))


def test_nam_after_layer_23_gives_exactly_yolov5_nam():
    ours, shipped = Model(insert_layers(YOLOV5S, ["NAMAttention@23"], "s"), nc=10), Model("yolov5-NAM.yaml")
    assert rows_of(ours.yaml) == rows_of(shipped.yaml)
    shapes = [[(key, value.shape) for key, value in model.state_dict().items()] for model in (ours, shipped)]
    assert shapes[0] == shapes[1]
    assert ours.rows == shipped.rows


def test_what_reads_a_layer_reads_what_was_inserted_after_it():
    rows = inserted("NAMAttention@4,6,9")
    assert [index for index, row in enumerate(rows) if row[2] == "NAMAttention"] == [5, 8, 12]
    assert [rows[i][3] for i in (5, 8, 12)] == [[256], [512], [1024]]
    concats = [row[0] for row in rows if row[2] == "Concat"]
    assert concats == [[-1, 8], [-1, 5], [-1, 17], [-1, 13]]  # read 6, 4, 14 and 10 before
    assert rows[-1][0] == [20, 23, 26]


def test_after_every_layer_of_a_type():
    rows = inserted("NAMAttention@C3")
    assert [rows[index - 1][2] for index, row in enumerate(rows) if row[2] == "NAMAttention"] == ["C3"] * 8
    assert [rows[index][2] for index in rows[-1][0]] == ["NAMAttention"] * 3


def test_before_detect_touches_nothing_else():
    rows = inserted("CBAM@before-Detect", "SE@before-Detect")
    assert rows[:24] == rows_of(YOLOV5S)[:24]
    assert rows[24:] == [
        *([17, 1, "CBAM", [256]], [24, 1, "SE", [256]]),
        *([20, 1, "CBAM", [512]], [26, 1, "SE", [512]]),
        *([23, 1, "CBAM", [1024]], [28, 1, "SE", [1024]]),
        [[25, 27, 29], 1, "Detect", ["nc", "anchors"]],
    ]


def test_several_rules_count_in_the_indices_of_the_base():
    rows = inserted("SE@0", "NAMAttention@23", "ECA@0")
    assert [row[2] for row in rows[:4]] == ["Conv", "SE", "ECA", "Conv"]
    assert rows[26][2] == "NAMAttention" and rows[-1][0] == [19, 22, 26]


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("NAMAttention(no_spatial=False)@9", [-1, 1, "NAMAttention", [1024, {"no_spatial": False}]]),
        ("NAMAttention(gate=identity, grid=9)@9", [-1, 1, "NAMAttention", [1024, {"gate": "identity", "grid": 9}]]),
        ("ConstantGate(0.25)@9", [-1, 1, "ConstantGate", [1024, 0.25]]),
        ("ConstantGate(0.25)@12", [-1, 1, "ConstantGate", [None, 0.25]]),  # after a Concat no YAML row says a number
        ("SE(1024)@9", [-1, 1, "SE", [1024]]),  # the declared channels, as in a YAML row
        ("NAMAttention@12", [-1, 1, "NAMAttention", []]),
        ("NAMAttention@11", [-1, 1, "NAMAttention", [512]]),  # Upsample passes on what the layer before it declares
        ("nn.Dropout2d(0.1)@9", [-1, 1, "nn.Dropout2d", [0.1]]),
        ("Conv(512,3)@9", [-1, 1, "Conv", [512, 3]]),
        ("C3@9", [-1, 1, "C3", [1024]]),
        ("Conv(256,3,1,None,1,nn.LeakyReLU(0.1))@9", [-1, 1, "Conv", [256, 3, 1, None, 1, "nn.LeakyReLU(0.1)"]]),
    ],
)
def test_options_in_parentheses_become_the_rows_arguments(rule, row):
    config = insert_layers(YOLOV5S, [rule], "yolov5s.yaml")
    place = int(rule.rpartition("@")[2]) + 1
    assert rows_of(config)[place] == row
    Model(config)


@pytest.mark.parametrize("path", ALL_YAMLS, ids=lambda path: path.stem)
def test_in_every_shipped_yaml_a_gate_fits_after_every_layer(path):
    config = read_yaml(path) | {"depth_multiple": 0.33, "width_multiple": 0.125}
    count = len(rows_of(config))
    places = ",".join(map(str, range(count - 1)))
    model = Model(insert_layers(config, [f"Identity@{places}", "Identity@before-Detect"], path.name)).eval()
    plain = Model(config).eval()
    gates = [row for row in model.rows if row.type == "Identity"]
    assert len(gates) == count - 1 + len(plain.rows[-1].sources)
    kept = [row.index for row in model.rows if row.type != "Identity"]
    state = {}
    for key, tensor in plain.state_dict().items():
        _, index, rest = key.split(".", 2)
        state[f"model.{kept[int(index)]}.{rest}"] = tensor
    model.load_state_dict(state)
    images = torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(model(images)[0], plain(images)[0])  # the same network, wired the same way


def test_relative_sources_stay_relative_and_right():
    base = YOLOV5S | {
        "backbone": [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [64, 1]], [-2, 1, "Conv", [64, 1]]],
        "head": [[[-1, -2, 0], 1, "Concat", [1]], [[3], 1, "Detect", ["nc", [[10, 13]]]]],
    }
    rows = inserted("SE@0,1", base=base)
    assert [row[0] for row in rows] == [-1, -1, -1, -1, -3, [-1, -2, 1], [5]]
    assert Model(base | {"backbone": rows[:5], "head": rows[5:]}).rows[5].sources == [4, 3, 1]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("NAMAttention@24", "'24'.*after layers 0 to 23 .layer 24 is Detect"),
        ("NAMAttention@99", "'99'.*0 to 23"),
        ("NAMAttention@-1", "'-1'.*0 to 23"),
        ("NAMAttention@4,x", "'x'"),
        ("NAMAttention@Convs", "no layer 'Convs'; did you mean 'Conv'"),
        ("NAMAttention@Detect", "no layer 'Detect'.*before-Detect"),
        ("NAMAtention@9", "unknown layer 'NAMAtention'; did you mean 'NAMAttention'.*--plugins"),
        ("NAMAttention", "expected Layer@place"),
        ("@9", "expected Layer@place"),
        ("NAMAttention(@9", "not a layer with plain arguments"),
        ("NAMAttention(**x)@9", "not a layer with plain arguments"),
        ("NAMAttention(1+x)@9", "not a layer with plain arguments"),
        ("Concat(1)@9", "Concat reads several layers"),
        ("Conv@12", "say the output channels"),
    ],
)
def test_a_wrong_rule_is_one_line_that_names_it(rule, words):
    with pytest.raises(UserError, match=words) as raised:
        insert_layers(YOLOV5S, [rule], "yolov5s.yaml")
    assert f"--insert {rule}" in str(raised.value) and "\n" not in str(raised.value)


def test_a_malformed_row_of_the_base_is_named():
    with pytest.raises(UserError, match=r"broken\.yaml: row 1: .*not a row"):
        insert_layers(YOLOV5S | {"backbone": [[-1, 1, "Conv", [64]], "Conv"]}, ["SE@0"], "broken.yaml")


def test_a_base_that_reads_ahead_is_not_made_to_fit():
    base = YOLOV5S | {"backbone": [[-1, 1, "Conv", [64, 3, 2]], [2, 1, "Conv", [64]], [-1, 1, "Conv", [64]]]}
    with pytest.raises(UserError, match=r"ahead\.yaml: row 1 Conv: from is 2, but only layers 0 to 0 come before it"):
        insert_layers(base, ["Identity@0,1"], "ahead.yaml")


def test_the_base_is_not_changed():
    before = read_yaml(ROOT / "models/yolov5s.yaml")
    inserted("NAMAttention@C3", "SE@before-Detect")
    assert before == YOLOV5S


def test_a_bare_word_is_a_string():
    assert parse_rule("NAMAttention(no_spatial=false)@9").options == {"no_spatial": False}
    assert parse_rule("NAMAttention(gate=identity,detach=False)@9").options == {"gate": "identity", "detach": False}


def test_the_written_yaml_has_a_row_a_line_and_gives_the_same_network(tmp_path):
    file = insert.run(base="yolov5s.yaml", insert=["NAMAttention(no_spatial=False)@23"], output=tmp_path / "out.yaml")
    assert "- [-1, 1, NAMAttention, [1024, {no_spatial: false}]]" in file.read_text().splitlines()
    config = read_yaml(file)
    assert config == insert_layers(YOLOV5S, ["NAMAttention(no_spatial=False)@23"], "s")
    write_yaml(tmp_path / "again.yaml", config)
    assert (tmp_path / "again.yaml").read_text() == file.read_text()


def test_the_command_prints_the_table_and_names_unread_layers(tmp_path):
    config = insert_layers(YOLOV5S, ["NAMAttention@23"], "s")
    config["head"][-1][0] = [17, 20, 23]  # the classic mistake: Detect still reads what it read before
    write_yaml(tmp_path / "forgotten.yaml", config)
    assert [row.index for row in unread_rows(Model(config).rows)] == [24]
    command = [sys.executable, "-m", "models.insert", str(tmp_path / "forgotten.yaml"), "-o", str(tmp_path / "o.yaml")]
    run = subprocess.run([*command, "--insert", "SE@9"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    output = run.stdout + run.stderr
    assert "10                -1  1     32768  SE" in output
    assert "nobody reads the output of layer 25 NAMAttention" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothere.yaml", "-o", "x.yaml", "--insert", "SE@9"], "'nothere.yaml' does not exist"),
        (["yolov5s.yaml", "--insert", "SE@9"], "-o OUT.yaml"),
        (["yolov5s.yaml", "-o", "x.yaml", "--insert", "SE@99"], "--insert SE@99"),
        (["yolov5s.yaml", "-o", "x.yaml"], "say what to insert with --insert Layer@place"),
        (["yolov5s.yaml", "-o", "models/yolov5s.yaml", "--insert", "SE@9"], "is the YAML to start from"),
        (["yolov5s.yaml", "-o", "x.yaml", "--insert", "SE(size=1)@9"], "yolov5s.yaml with SE(size=1)@9: row 10 SE"),
    ],
)
def test_the_command_fails_in_one_line(tmp_path, arguments, words):
    command = [sys.executable, "-m", "models.insert", *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and words in run.stderr and len(run.stderr.splitlines()) == 1
    assert not (ROOT / "x.yaml").exists()


def test_no_shipped_yaml_has_a_layer_that_nobody_reads():
    for path in ALL_YAMLS:
        assert unread_rows(Model(read_yaml(path) | {"width_multiple": 0.125}).rows) == [], path
