import logging

import pytest
import torch

from utils.errors import UserError
from utils.eval.class_mapping import check_classes, class_columns, map_classes

COCO = {0: "person", 1: "traffic light", 2: "dog", 3: "cat"}


@pytest.mark.parametrize(
    ("data", "columns"),
    [
        ({0: "cat", 1: "person"}, [3, 0]),
        ({0: "Traffic_Light", 1: " DOG "}, [1, 2]),
        ({0: "traffic-light", 1: "bird"}, [1, None]),
    ],
)
def test_classes_are_found_by_name(data, columns):
    assert class_columns(COCO, data) == columns


@pytest.mark.parametrize(
    ("model", "data", "columns"),
    [
        (["cat", "cat"], ["cat"], [0]),
        (["cat", "cat"], ["cat", "cat"], [0, 1]),
        (["dog", "Cat", "cat"], ["CAT", "cat"], [1, 2]),
        (["A", "B", "a", "b", "-", "_"], ["A", "B", "a", "b", "-", "_"], [0, 1, 2, 3, 4, 5]),
        (["A", "B", "a", "b"], ["b", "a", "B", "A"], [3, 2, 1, 0]),
    ],
)
def test_of_several_classes_that_fit(model, data, columns):
    assert class_columns(dict(enumerate(model)), dict(enumerate(data))) == columns


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({0: "cat", 1: "bird"}, "knows 4 classes, but my.yaml has 2; the model has no 'bird'; --map-classes measures"),
        ({0: "cat", 1: "dog"}, "has 2; --map-classes measures the 2 of 2 that the model has by name, or measure on"),
        ({0: "x", 1: "y"}, "the model has no 'x', 'y'; measure on the data set it was trained for"),
        (
            {0: "dog", 1: "cat", 2: "person", 3: "traffic light"},
            "class 0 is 'person' to the model and 'dog' in my.yaml, which the model has as class 2; --map-classes",
        ),
        ({0: "person", 1: "bird", 2: "cat", 3: "cow"}, "class 2 is 'dog' to the model and 'cat' in my.yaml, which"),
    ],
)
def test_differing_classes_are_named(data, said):
    with pytest.raises(UserError) as error:
        check_classes(COCO, data, "my.yaml")
    assert said in str(error.value)


@pytest.mark.parametrize("names", [COCO, {0: "A", 1: "a", 2: "a"}])
def test_equal_classes_say_nothing(names, caplog):
    check_classes(names, dict(names), "my.yaml")
    assert not caplog.records


def test_other_names_for_the_same_numbers_are_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        check_classes(COCO, {0: "people", 1: "lamp", 2: "dog", 3: "cat"}, "my.yaml")
    (record,) = caplog.records
    assert "class 0 is 'person' to the model and 'people' in my.yaml, and 1 more differ" in record.message
    assert "measures the 2 of 4" in record.message


def test_scores_go_to_the_data_sets_classes(caplog):
    decoded = torch.arange(18.0).reshape(1, 2, 9)
    with caplog.at_level(logging.INFO):
        predict = map_classes(lambda images: decoded, COCO, {0: "cat", 1: "bird", 2: "person"})
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]
    assert "no 'bird'" in caplog.text
    assert torch.equal(predict(torch.zeros(1)), decoded[..., [0, 1, 2, 3, 4, 8, 0, 5]] * torch.tensor([1] * 6 + [0, 1]))


def test_nothing_in_common_is_explained():
    with pytest.raises(
        UserError, match=r"none of the data set's classes \('bolt'\); its own are 'person'.* and 1 more"
    ):
        map_classes(lambda images: images, COCO, {0: "bolt"})
