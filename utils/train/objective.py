"""What a run minimises."""

from typing import TYPE_CHECKING

from utils.log import LOGGER
from utils.train.hyperparameters import Hyperparameters, scale_gains
from utils.train.loss import Criterion, DetectionLoss, Total, unshared
from utils.train.sparsity import PenalisedLoss, sparse_scales

if TYPE_CHECKING:
    from models.yolo import Model


def detection_loss(hyp: Hyperparameters, model: "Model", image_size: int, total: Total = unshared) -> DetectionLoss:
    """Return the loss of the model's head.

    Args:
        hyp: as read; gains are scaled to head and image size here.
        model: whose head it is.
        image_size: px.
        total: sums over the processes that share each batch.
    """
    head = model.detect
    hyp = scale_gains(hyp, head.nl, head.nc, image_size)
    return DetectionLoss(
        anchors=head.anchors.cpu(),
        classes=head.nc,
        strides=head.strides,
        box_gain=hyp.box,
        objectness_gain=hyp.obj,
        class_gain=hyp.cls,
        objectness_positive_weight=hyp.obj_pw,
        class_positive_weight=hyp.cls_pw,
        ratio_limit=hyp.anchor_t,
        focal_gamma=hyp.fl_gamma,
        label_smoothing=hyp.label_smoothing,
        total=total,
    )


def training_loss(
    hyp: Hyperparameters, model: "Model", image_size: int, total: Total = unshared, processes: int = 1
) -> Criterion:
    """Return the loss of the head, with nam_l1's penalty where there is something to press.

    Args:
        hyp: see detection_loss.
        model: the trained one, on its device.
        image_size: px.
        total: see detection_loss.
        processes: how many share each batch.
    """
    loss, scales = detection_loss(hyp, model, image_size, total), sparse_scales(model)
    if hyp.nam_l1 and scales:
        return PenalisedLoss(loss, hyp.nam_l1, list(scales.values()), processes)
    if hyp.nam_l1:
        LOGGER.warning(
            f"WARNING: nam_l1 {hyp.nam_l1:g} of the --hyp file has no effect: the network has no NAM layers; "
            "choose one that has, such as --cfg models/yolov5-NAM.yaml"
        )
    return loss
