import pytest
import yaml

from utils.data import synthetic
from utils.data.config import load_dataset_config
from utils.errors import UserError

GOOD = {"path": "animals", "train": "images/train", "val": "images/val", "names": ["cat", "dog"]}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Work in an empty folder; return a function that writes data.yaml there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOV5_DATASETS_DIR", str(tmp_path / "datasets"))

    def write(**changes):
        content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
        (tmp_path / "data.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return str(tmp_path / "data.yaml")

    return write


def make_splits(root):
    for split in ("train", "val"):
        (root / "images" / split).mkdir(parents=True)
    return root


def test_reads_names_and_places_splits(place, tmp_path):
    root = make_splits(tmp_path / "animals")
    config = load_dataset_config(place())
    assert (config.root, config.names, config.nc) == (root, {0: "cat", 1: "dog"}, 2)
    assert config.splits == {"train": [root / "images/train"], "val": [root / "images/val"]}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"names": {0: "cat", 1: "dog"}, "nc": 2}, {0: "cat", 1: "dog"}),
        ({"names": {1: "dog", 0: "cat"}}, {0: "cat", 1: "dog"}),
        ({"names": [7, 8]}, {0: "7", 1: "8"}),
        ({"names": None, "nc": 3}, {0: "class0", 1: "class1", 2: "class2"}),
    ],
)
def test_names(place, tmp_path, changes, names):
    make_splits(tmp_path / "animals")
    assert load_dataset_config(place(**changes)).names == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nams": ["cat"]}, "unknown key 'nams'.*'names'"),
        ({"colour": 1}, "unknown key 'colour'.*known keys"),
        ({"nc": 3}, "'nc' is 3 but 'names' has 2"),
        ({"nc": "two"}, "'nc' is 'two'"),
        ({"names": None}, "'names' is missing"),
        ({"names": "cat"}, "'names' is 'cat'"),
        ({"names": {1: "cat", 2: "dog"}}, "keys 1, 2; expected 0 to 1"),
        ({"names": {"0": "cat"}}, "'names' has the keys"),
        ({"names": [True, False]}, "class 0 in 'names' reads as True; put the name in quotes"),
        ({"train": None}, "'train' is missing"),
        ({"val": None}, "'val' is missing"),
        ({"val": 3}, "'val' is 3"),
        ({"kpt_shape": [17, 3]}, "unknown key 'kpt_shape'.*known keys"),
        ({"ch": 0}, "'ch' is 0, expected the number of channels"),
        ({"ch": "3"}, "'ch' is '3', expected"),
        ({"ch": True}, "'ch' is True, expected"),
        ({"ch": 3.0}, "'ch' is 3.0, expected"),
        ({"path": ["a"]}, r"'path' is \['a'\], expected a folder"),
    ],
)
def test_mistakes_are_named(place, tmp_path, changes, message):
    make_splits(tmp_path / "animals")
    with pytest.raises(UserError, match=message) as caught:
        load_dataset_config(place(**changes))
    assert "data.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_data_lists_the_places(place, tmp_path):
    with pytest.raises(UserError) as caught:
        load_dataset_config(place(path="../datasets/animals"))
    for part in (tmp_path / "datasets" / "animals", tmp_path.parent / "datasets" / "animals", "images/train"):
        assert str(part) in str(caught.value)


def test_missing_entries_are_told_for_each_place(place, tmp_path):
    (tmp_path / "animals" / "images" / "train").mkdir(parents=True)
    with pytest.raises(UserError) as caught:
        load_dataset_config(place(train=["images/train", "more.txt"]))
    here = f"'more.txt' (train), 'images/val' (val) not found in '{tmp_path / 'animals'}'; "
    assert f"{here}'images/train' (train), 'more.txt' (train), 'images/val' (val) not found in '" in str(caught.value)


def test_lists_of_images(place, tmp_path):
    root = make_splits(tmp_path / "animals")
    (root / "images" / "train" / "1.jpg").write_bytes(b"")
    (root / "train.txt").write_text("./images/train/gone.jpg\n./images/train/1.jpg\n")
    (root / "val.txt").write_text("\n\n")
    config = load_dataset_config(place(train=["train.txt", "images/train"], val="val.txt"))
    assert config.splits["train"] == [root / "train.txt", root / "images" / "train"]
    (root / "train.txt").write_text("./images/train/gone.jpg\n./images/train/2.jpg\n")
    with pytest.raises(UserError, match=r"'./images/train/gone.jpg', which 'train.txt' lists, \(train\) not found in"):
        load_dataset_config(place(train="train.txt"))


def test_only_the_splits_in_use_must_be_there(place, tmp_path):
    root = make_splits(tmp_path / "animals")
    (root / "images" / "train").rmdir()
    assert load_dataset_config(place(), splits=("val",)).root == root
    assert load_dataset_config(place(), splits=("val", "test")).root == root
    with pytest.raises(UserError, match=r"'images/train' \(train\) not found"):
        load_dataset_config(place())


@pytest.mark.parametrize(("given", "channels"), [(None, 3), (1, 1), (4, 4), (13, 13)])
def test_channels(place, tmp_path, given, channels):
    make_splits(tmp_path / "animals")
    config = load_dataset_config(place(ch=given))
    assert (config.channels, config.as_single_class().channels) == (channels, channels)


def test_datasets_dir_comes_first_when_set(place, tmp_path):
    (tmp_path / "work").mkdir()
    make_splits(tmp_path.parent / "datasets" / f"animals-{tmp_path.name}")
    root = make_splits(tmp_path / "datasets" / f"animals-{tmp_path.name}")
    assert load_dataset_config(place(path=f"../datasets/animals-{tmp_path.name}")).root == root


def test_without_path_the_yaml_folder_is_the_root(place, tmp_path):
    make_splits(tmp_path)
    assert load_dataset_config(place(path=None)).root == tmp_path


def test_leading_dots_that_lead_nowhere_are_dropped(place, tmp_path):
    make_splits(tmp_path)
    config = load_dataset_config(place(path=None, train="../images/train", val="../images/val"))
    assert config.splits["val"] == [tmp_path / "images/val"]


def test_split_may_be_a_list(place, tmp_path):
    root = make_splits(tmp_path / "animals")
    config = load_dataset_config(place(train=["images/train", "images/val"]))
    assert config.splits["train"] == [root / "images/train", root / "images/val"]


def test_absent_test_split_does_not_matter_before_use(place, tmp_path):
    root = make_splits(tmp_path / "animals")
    assert load_dataset_config(place(test="images/test")).splits["test"] == [root / "images/test"]


def test_symbolic_links_stay_as_written(place, tmp_path):
    make_splits(tmp_path / "elsewhere")
    (tmp_path / "animals").mkdir()
    try:
        (tmp_path / "animals" / "images").symlink_to(tmp_path / "elsewhere" / "images")
    except OSError:
        pytest.skip("this system does not allow symbolic links")
    assert load_dataset_config(place()).splits["train"] == [tmp_path / "animals" / "images" / "train"]


def test_single_class(place, tmp_path):
    make_splits(tmp_path / "animals")
    config = load_dataset_config(place()).as_single_class()
    assert (config.names, config.nc, config.single_class) == ({0: "item"}, 1, True)


def test_generator_makes_missing_data_once(place, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(synthetic, "GENERATORS", {"toy": lambda folder: made.append(make_splits(folder))})
    file = place(path="../datasets/toy", generator="toy")
    assert load_dataset_config(file).root == tmp_path / "datasets" / "toy"
    load_dataset_config(file)
    assert made == [tmp_path / "datasets" / "toy"]


def test_unknown_generator(place):
    with pytest.raises(UserError, match=r"unknown generator 'shapes9'.*'shapes10'"):
        load_dataset_config(place(path="../datasets/none", generator="shapes9"))
