"""xView: ``xView_train.geojson`` and ``train_images/*.tif``, 60 classes.

The boxes are in ``properties.bounds_imcoords``, in px. There is one labelled split. Written from what is known of the
format and tried on made examples only.
"""

from pathlib import Path
from typing import Any

from utils.data.convert.geometry import numbers
from utils.data.convert.images import index_images
from utils.data.convert.json_files import list_of, read_json
from utils.data.convert.records import Category, Loss, Reading, Record, Thing, Unusable
from utils.errors import UserError

GEOJSON = "xView_train.geojson"
CATEGORIES: dict[Category, str] = {
    **{11: "Fixed-wing Aircraft", 12: "Small Aircraft", 13: "Cargo Plane", 15: "Helicopter", 17: "Passenger Vehicle"},
    **{18: "Small Car", 19: "Bus", 20: "Pickup Truck", 21: "Utility Truck", 23: "Truck", 24: "Cargo Truck"},
    **{25: "Truck w/Box", 26: "Truck Tractor", 27: "Trailer", 28: "Truck w/Flatbed", 29: "Truck w/Liquid"},
    **{32: "Crane Truck", 33: "Railway Vehicle", 34: "Passenger Car", 35: "Cargo Car", 36: "Flat Car", 37: "Tank car"},
    **{38: "Locomotive", 40: "Maritime Vessel", 41: "Motorboat", 42: "Sailboat", 44: "Tugboat", 45: "Barge"},
    **{47: "Fishing Vessel", 49: "Ferry", 50: "Yacht", 51: "Container Ship", 52: "Oil Tanker"},
    **{53: "Engineering Vehicle", 54: "Tower crane", 55: "Container Crane", 56: "Reach Stacker"},
    **{57: "Straddle Carrier", 59: "Mobile Crane", 60: "Dump Truck", 61: "Haul Truck", 62: "Scraper/Tractor"},
    **{63: "Front loader/Bulldozer", 64: "Excavator", 65: "Cement Mixer", 66: "Ground Grader", 71: "Hut/Tent"},
    **{72: "Shed", 73: "Building", 74: "Aircraft Hangar", 76: "Damaged Building", 77: "Facility"},
    **{79: "Construction Site", 83: "Vehicle Lot", 84: "Helipad", 86: "Storage Tank", 89: "Shipping container lot"},
    **{91: "Shipping Container", 93: "Pylon", 94: "Tower"},
}


def read(source: Path) -> Reading:
    """Return what the GeoJSON of ``source``, a folder or the file, describes.

    Raises:
        UserError: it is missing or malformed.
    """
    file = source if source.is_file() else next(iter(sorted(source.rglob(GEOJSON))), None)
    if file is None:
        raise UserError(f"'{source}' holds no {GEOJSON}")
    index = index_images([file.parent / "train_images", file.parent / "images" / "train_images", file.parent])
    images = {path.name: path for path in index.values()}
    records = {name: Record(file, "train", name, path) for name, path in sorted(images.items())}
    reading = Reading(CATEGORIES, (), 0)
    for number, feature in enumerate(list_of(file, read_json(file), "features")):
        properties = feature.get("properties") if isinstance(feature, dict) else None
        name = properties.get("image_id") if isinstance(properties, dict) else None
        if not isinstance(properties, dict) or not isinstance(name, str):
            reading.lost_boxes.append(Loss(str(file), f"feature {number}", "no image_id"))
            continue
        missing = Record(file, "train", name, None, problem=f"the image is missing: '{name}'")
        _add(records.setdefault(name, missing), properties, f"feature {number}")
    reading.records, reading.total = records.values(), len(records)
    return reading


def _add(record: Record, properties: dict[str, Any], where: str) -> None:
    try:
        category = properties.get("type_id")
        if not isinstance(category, int) or category not in CATEGORIES:
            raise Unusable(f"type without a class: {category}")
        left, top, right, bottom = numbers(str(properties.get("bounds_imcoords")).split(","), 4)
        record.things.append(Thing(where, category, (left, top, right, bottom)))
    except Unusable as error:
        record.losses.append((where, str(error)))
