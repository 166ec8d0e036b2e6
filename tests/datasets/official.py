"""Two tiny pictures of every catalog entry, in the layout in which its makers hand it out, then prepared where that is needed.

Every label image has four quarters of 96 pixels: three classes and one that does not count. What a writer returns is what the
reader must find: for each picture the classes, sentences, captions or questions.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as rle
from scipy.io import savemat

from datasets.prepare.__main__ import main as prepare_command

HEIGHT, WIDTH = 16, 24
Found = dict[str, Any]  # picture id -> what is known of it
LEFT, RIGHT, BELOW = ((slice(0, 8), slice(0, 12)), (slice(0, 8), slice(12, 24)), (slice(8, 16), slice(0, 12)))


def quarters(*values: int) -> np.ndarray:
    """Three classes and void."""
    padded = np.full((HEIGHT, WIDTH), values[3])
    for place, value in zip((LEFT, RIGHT, BELOW), values[:3], strict=True):
        padded[place] = value
    return padded


def save(path: Path, values: np.ndarray, dtype: Any = np.uint8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(dtype)).save(path)


def painted(path: Path, seed: int = 0) -> None:
    save(path, np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)))


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def colours(ids: np.ndarray) -> np.ndarray:
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1)


def prepare(root: Path, name: str) -> None:
    assert prepare_command([name, "--root", str(root), "--workers", "1"]) == 0


def polygon(top: int, left: int, bottom: int, right: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    code = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": code["size"], "counts": code["counts"].decode()}


THREE = (96, 96, 96)


def all_alike(images: Iterable[Any], known: Any) -> Found:
    return dict.fromkeys(images, known)


def labelled(names: tuple[str, str, str]) -> dict[str, int]:
    return dict(zip(names, THREE, strict=True))


# COCO -------------------------------------------------------------------------------------------------------------------------
COCO_NAMES = ("person", "toothbrush", "rug-merged")
COCO_IDS = (1, 90, 200)


def _coco_images(root: Path, split: str) -> list[Found]:
    images = []
    for number in (139, 285):
        painted(root / f"coco/{split}2017/{number:012d}.jpg", number)
        images.append({"id": number, "file_name": f"{number:012d}.jpg", "height": HEIGHT, "width": WIDTH})
    return images


def coco_panoptic(root: Path, split: str) -> Found:
    annotations = []
    images = _coco_images(root, split)
    for image in images:
        name = f"{image['id']:012d}.png"
        save(root / f"coco/panoptic_{split}2017" / name, colours(quarters(70000, 300, 5, 0)))
        infos = [
            {"id": key, "category_id": category, "iscrowd": 0, "area": 96, "bbox": [0, 0, 1, 1]}
            for key, category in zip((70000, 300, 5), COCO_IDS, strict=True)
        ]
        annotations.append({"image_id": image["id"], "file_name": name, "segments_info": infos})
    categories = [{"id": key, "name": name, "isthing": int(key <= 90)} for key, name in zip(COCO_IDS, COCO_NAMES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / f"coco/annotations/panoptic_{split}2017.json", content)
    coco_instances(root, split)
    captions = [{"image_id": image["id"], "caption": "A rug. "} for image in images]
    write_json(root / f"coco/annotations/captions_{split}2017.json", {"images": images, "annotations": captions})
    return {image["id"]: labelled(COCO_NAMES) for image in images}


def coco_instances(root: Path, split: str) -> Found:
    """A polygon, and a crowd's run lengths."""
    images = _coco_images(root, split)
    annotations = [
        row
        for i, image in enumerate(images)
        for row in (
            {
                "id": 2 * i + 1,
                "image_id": image["id"],
                "category_id": 1,
                "iscrowd": 0,
                "area": 96.0,
                "bbox": [0, 0, 12, 8],
                "segmentation": polygon(0, 0, 8, 12),
            },
            {
                "id": 2 * i + 2,
                "image_id": image["id"],
                "category_id": 90,
                "iscrowd": 1,
                "area": 96.0,
                "bbox": [12, 0, 12, 8],
                "segmentation": {"size": [HEIGHT, WIDTH], "counts": _counts(quarters(0, 1, 0, 0))},
            },
        )
    ]
    categories = [{"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / f"coco/annotations/instances_{split}2017.json", content)
    return {image["id"]: {"person": 96, "toothbrush": 96} for image in images}


def _counts(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths, down the columns, beginning with zeros."""
    runs = [(key, len(list(run))) for key, run in groupby(mask.T.ravel().tolist())]
    return ([] if runs[0][0] == 0 else [0]) + [length for _, length in runs]


def coco_semantic(root: Path, split: str) -> Found:
    found = coco_panoptic(root, split)
    prepare(root, "coco_semantic")
    return {f"{key:012d}": names for key, names in found.items()}


def coco_stuff(root: Path, split: str) -> Found:
    for image in _coco_images(root, split):
        save(root / f"coco/stuffthingmaps/{split}2017/{image['id']:012d}.png", quarters(0, 91, 181, 255))
    return {f"{number:012d}": labelled(("person", "banner", "wood")) for number in (139, 285)}


def karpathy(root: Path, home: str, file: str, subset: str) -> Found:
    captions = [f"Caption {i} of a dog." for i in range(5)]
    rows = []
    for number, split in enumerate((subset, subset, "elsewhere")):
        row: Found = {"filename": f"{number}.jpg", "split": split, "imgid": number, "sentences": [{"raw": c} for c in captions]}
        if home == "coco":
            row |= {"filepath": "val2014", "cocoid": number}
        path = root / home / ("val2014" if home == "coco" else "images") / row["filename"]
        painted(path, number)
        rows.append(row)
    write_json(root / home / file, {"images": rows, "dataset": home})
    return all_alike((0, 1), tuple(captions))


def flickr8k(root: Path, split: str) -> Found:
    lines = [f"{number}.jpg#{i}\tCaption {i} .\n" for number in (0, 1) for i in range(5)]
    for number in (0, 1):
        painted(root / f"flickr8k/images/{number}.jpg", number)
    (root / "flickr8k/Flickr8k.token.txt").write_text("".join(lines))
    (root / f"flickr8k/{'test' if split == 'test' else 'train450'}.txt").write_text("0.jpg\n1.jpg\n")
    return {f"{number}.jpg": tuple(f"Caption {i} ." for i in range(5)) for number in (0, 1)}


def refer(root: Path, folder: str, by: str, split: str, merged: bool) -> Found:
    """Two pictures; the first has two objects, of which the first was said two things of. Another split is in the file too."""
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)]
    for image in images:
        painted(root / "coco/train2017" / f"{image['id']:012d}.jpg", image["id"])
    corners = {10: (1, 0, 0, 8, 12), 11: (1, 0, 12, 8, 24), 12: (2, 8, 0, 16, 12), 13: (3, 0, 0, 1, 1)}
    places = {key: (image, polygon(*box)) for key, (image, *box) in corners.items()}
    annotations = [
        {
            "id": key,
            "image_id": image,
            "category_id": 1,
            "iscrowd": 0,
            "area": 96,
            "bbox": [0, 0, 1, 1],
            "segmentation": outline,
        }
        for key, (image, outline) in places.items()
    ]
    said = {10: ("The LEFT dog", "a dog"), 11: ("cat",), 12: ("bird below",), 13: ("elsewhere",)}
    refs = [
        {
            "ref_id": key,
            "ann_id": key,
            "image_id": places[key][0],
            "category_id": 1,
            "sent_ids": [key],
            "file_name": "x.jpg",
            "split": "train" if key == 13 and split != "train" else "val" if key == 13 else split,
            "sentences": [{"raw": text, "sent": text.lower(), "tokens": text.split(), "sent_id": key} for text in texts],
        }
        for key, texts in said.items()
    ]
    home = root / "refcocoseg" / folder
    categories = [{"id": 1, "name": "dog"}]
    write_json(home / "instances.json", {"images": images, "annotations": annotations, "categories": categories})
    tests = ("testA", "testB") if by == "unc" else ("test",)
    others = [{**refs[0], "split": other} for other in ("train", "val", *tests) if other != split and merged]
    (home / f"refs({by}).p").write_bytes(pickle.dumps([*refs, *others], protocol=2))
    if merged:
        prepare(root, "refcoco")
    return {1: ("the left dog", "a dog", "cat"), 2: ("bird below",)}


def grefcoco(root: Path, split: str) -> Found:
    """Of the first picture one object, both (a polygon and run lengths) and nothing; of the second its one object."""
    images = [{"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)]
    for image in images:
        painted(root / "coco/train2014" / image["file_name"], image["id"])
    outlines = {10: (1, polygon(0, 0, 8, 12)), 11: (1, run_lengths(quarters(0, 1, 0, 0))), 12: (2, polygon(8, 0, 16, 12))}
    annotations = [
        {
            "id": key,
            "image_id": image,
            "category_id": 1,
            "iscrowd": 0,
            "area": 96,
            "bbox": [0, 0, 1, 1],
            "segmentation": outline,
        }
        for key, (image, outline) in outlines.items()
    ]
    said = [(1, [10], "The LEFT dog"), (1, [10, 11], "both"), (1, [-1], "a cat"), (2, 12, "below"), (3, [-1], "elsewhere")]
    refs = [
        {
            "ref_id": i,
            "ann_id": meant,
            "image_id": image,
            "category_id": meant,
            "split": split if image < 3 else "another",
            "sentences": [{"raw": text, "sent": text.lower(), "tokens": text.split(), "sent_id": i}],
        }
        for i, (image, meant, text) in enumerate(said)
    ]
    write_json(root / "grefcoco/instances.json", {"images": images, "annotations": annotations, "categories": []})
    write_json(root / "grefcoco/grefs(unc).json", refs)
    return {1: ("the left dog", "both", "a cat"), 2: ("below",)}


def saco(root: Path, subset: str) -> Found:
    """Two pictures and four phrases; the second annotator has not annotated those of the second picture to the end."""
    home = root / "saco_gold"
    file = {"food": "fg_food", "sports": "fg_sports_equipment"}.get(subset, subset)
    folder = "sa1b-images" if subset == "sa1b" else "metaclip-images"
    images = []
    for key, (picture, text) in enumerate((("a", "Dog"), ("a", "zebra"), ("b", "cat"), ("b", "grass")), start=1):
        painted(home / folder / f"1/{picture}.jpg")
        where = {"file_name": f"1/{picture}.jpg", "width": WIDTH, "height": HEIGHT}
        images.append({"id": key, **where, "text_input": text, "is_instance_exhaustive": 1, "is_pixel_exhaustive": 1})
    outline = {1: (quarters(1, 0, 0, 0), quarters(0, 1, 0, 0)), 3: (quarters(0, 0, 1, 0),), 4: (quarters(1, 1, 1, 1),)}
    rows = [
        {"id": i, "image_id": key, "category_id": 1, "iscrowd": 0, "area": 0.25, "bbox": [0, 0, 1, 1]}
        | {"segmentation": run_lengths(mask)}
        for key, masks in outline.items()
        for i, mask in enumerate(masks)
    ]
    for who in "abc":
        asked = [{**image, "is_instance_exhaustive": int(who != "b" or image["id"] < 3)} for image in images]
        kept = rows if who == "a" else [row for row in rows if row["id"] == 0]
        write_json(home / f"gt-annotations/gold_{file}_merged_{who}_release_test.json", {"images": asked, "annotations": kept})
    return {1: ("Dog",), 2: ("zebra",)}


def vqa(root: Path, split: str, images: str) -> Found:
    for number in (9, 25):
        painted(root / f"coco/{images}/COCO_{images}_{number:012d}.jpg", number)
    pairs = [(image, image * 1000 + i) for image in (9, 25) for i in (0, 1)]
    questions = [{"image_id": image, "question": "What is it?", "question_id": key} for image, key in pairs]
    content = {"data_type": "mscoco", "data_subtype": split, "questions": questions}
    write_json(root / f"vqa/v2_OpenEnded_mscoco_{split}_questions.json", content)
    answers = [
        {**row, "answers": [{"answer": "a dog" if i < 7 else "cat", "answer_confidence": "yes"} for i in range(10)]}
        for row in questions
    ]
    write_json(root / f"vqa/v2_mscoco_{split}_annotations.json", {"data_subtype": split, "annotations": answers})
    given = () if "test" in split else ("a dog",) * 7 + ("cat",) * 3
    return {image: tuple((image * 1000 + i, "What is it?", given) for i in (0, 1)) for image in (9, 25)}


def imagenet(root: Path, folders: tuple[str, ...]) -> Found:
    for folder in folders:
        (root / "imagenet/val" / folder).mkdir(parents=True)
    painted(root / "imagenet/val/n01440764/ILSVRC2012_val_00000293.JPEG")
    painted(root / "imagenet/val/n15075141/ILSVRC2012_val_00000013.JPEG")
    return {"n01440764/ILSVRC2012_val_00000293": "tench", "n15075141/ILSVRC2012_val_00000013": "toilet paper"}


# Scenes -----------------------------------------------------------------------------------------------------------------------
ADE = "ADEChallengeData2016"
SIDES = {"train": "training", "val": "validation"}


def ade(root: Path, split: str, panoptic: bool) -> Found:
    """bed (8, a thing), wall (1, stuff), flag (150, a thing); of the bed's instance half covers the wall."""
    stems = [f"ADE_{split}_0000000{i}" for i in (1, 2)]
    for i, stem in enumerate(stems):
        painted(root / ADE / "images" / SIDES[split] / f"{stem}.jpg", i)
        save(root / ADE / "annotations" / SIDES[split] / f"{stem}.png", quarters(8, 1, 150, 0))
        drawn = np.zeros((HEIGHT, WIDTH, 3))
        drawn[0:8, 0:6] = (1, 1, 0)  # half of the bed
        drawn[0:2, 12:24] = (100, 2, 0)  # a flag over the wall
        save(root / ADE / "annotations_instance" / SIDES[split] / f"{stem}.png", drawn)
    if not panoptic:
        return all_alike(stems, labelled(("bed", "wall", "flag")))
    prepare(root, "ade20k")
    return all_alike(stems, {"bed": 48, "wall": 72, "flag": 24})


def ade_full(root: Path, split: str) -> Found:
    home = root / "ADE20K_2021_17_01/images/ADE" / SIDES[split] / "urban/street"
    names = ("wall", "building, edifice", "bag, traveling bag, travelling bag, grip, suitcase")
    numbers = quarters(2978, 312, 97, 1)
    stems = [f"ADE_{split}_0000000{i}" for i in (1, 2)]
    for i, stem in enumerate(stems):
        painted(home / f"{stem}.jpg", i)
        coded = np.stack([numbers // 256 * 10, numbers % 256, numbers * 0], axis=-1)
        save(home / f"{stem}_seg.png", coded)
    prepare(root, "ade20k_full")
    return all_alike(stems, labelled(names))


def sun(root: Path) -> Found:
    for i in (1, 2):
        painted(root / f"sun_rgbd/image/test/img-00000{i}.jpg", i)
        save(root / f"sun_rgbd/label37/test/label-00000{i}.png", quarters(1, 24, 37, 0))
    return all_alike(("img-000001", "img-000002"), labelled(("wall", "refridgerator", "bag")))


def scannet(root: Path, number: int | None) -> Found:
    """NYU40's wall, bed and otherfurniture; lamp (35) is none of the 20."""
    home = root / "scannet_frames_25k"
    scenes = ("scene0011_00", "scene0011_01")
    for i, scene in enumerate(home / "images" / name for name in scenes):
        frame = "000000"
        painted(scene / f"color/{frame}.jpg", i)
        labels = quarters(1, 4, 39, 0)
        labels[15, 23] = 35
        save(scene / f"label/{frame}.png", labels)
        save(scene / f"instance/{frame}.png", quarters(1000, 4001, 39002, 0), np.uint16)
    prepare(root, "scannet")
    names = labelled(("wall", "bed", "otherfurniture"))
    if number is None:
        return {f"{scene}__000000": names for scene in scenes}
    if number == 38:
        names = {"wall": 96, "bed": 96, "lamp": 1}
    if number == 41:
        names |= {"lamp": 1}
    return {f"{scene}/color/000000": names for scene in scenes}


def cityscapes(root: Path, split: str, kind: str) -> Found:
    """road (7), a car (26) and a group of cars; licence plates (-1 as 65535 or 255) are nothing."""
    for i, stem in enumerate(("aachen_000000_000019", "bochum_000001_000019")):
        city = stem.split("_")[0]
        painted(root / f"cityscapes/leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", i)
        home = root / f"cityscapes/gtFine/{split}/{city}"
        save(home / f"{stem}_gtFine_labelIds.png", quarters(7, 26, 26, 4))
        save(home / f"{stem}_gtFine_instanceIds.png", quarters(7, 26001, 26, 4), np.uint16)
    stems = ("aachen_000000_000019", "bochum_000001_000019")
    if kind == "sem_seg":
        return {f"{stem}_leftImg8bit": {"road": 96, "car": 192} for stem in stems}
    prepare(root, "cityscapes")
    return all_alike(stems, {"road": 96, "car": 192} if kind == "panoptic" else {"car": 192})


def bdd(root: Path, panoptic: bool) -> Found:
    stems = ("b1c66a42-6f7d68ca", "b1c9c847-3bda4659")
    for i, stem in enumerate(stems):
        painted(root / f"bdd100k/images/10k/val/{stem}.jpg", i)
        save(root / f"bdd100k/labels/sem_seg/masks/val/{stem}.png", quarters(0, 13, 18, 255))
        kind, number = quarters(35, 35, 7, 0), quarters(1, 2, 0, 0)
        bits = np.where(number == 2, 2, 0)
        save(root / f"bdd100k/labels/pan_seg/bitmasks/val/{stem}.png", np.stack([kind, bits, number // 256, number], axis=-1))
    if not panoptic:
        return all_alike(stems, labelled(("road", "car", "bicycle")))
    prepare(root, "bdd")
    return all_alike(stems, {"car": 192, "road": 96})


def voc(root: Path, background: bool) -> Found:
    home = root / "VOCdevkit/VOC2012"
    stems = ("2007_000033", "2007_000042")
    for i, stem in enumerate(stems):
        painted(home / f"JPEGImages/{stem}.jpg", i)
        painted(home / "JPEGImages/2007_000001.jpg")  # of no split
        image = Image.fromarray(quarters(1, 20, 0, 255).astype(np.uint8))
        image.putpalette([(7 * i) % 256 for i in range(768)])
        (home / "SegmentationClass").mkdir(parents=True, exist_ok=True)
        image.save(home / f"SegmentationClass/{stem}.png")
    (home / "ImageSets/Segmentation").mkdir(parents=True)
    (home / "ImageSets/Segmentation/val.txt").write_text("\n".join(stems) + "\n")
    names = {"aeroplane": 96, "tvmonitor": 96}
    return all_alike(stems, names | ({"bag": 96} if background else {}))


def context(root: Path, classes: int) -> Found:
    home = root / "VOCdevkit/VOC2010"
    stems = ("2008_000002", "2008_000003")
    for i, stem in enumerate(stems):
        painted(home / f"JPEGImages/{stem}.jpg", i)
    if classes == 459:
        (home / "trainval").mkdir(parents=True)
        for stem in stems:
            savemat(home / f"trainval/{stem}.mat", {"LabelMap": quarters(1, 2, 459, 460).astype(np.uint16)})
        (home / "pascalcontext_val.txt").write_text("\n".join(stems) + "\n")
        prepare(root, "context_459")
        return all_alike(stems, labelled(("accordion", "aeroplane", "wool")))
    images = [
        {"image_id": i, "file_name": f"{stem}.jpg", "phase": phase, "height": HEIGHT, "width": WIDTH}
        for i, (stem, phase) in enumerate([*((stem, "val") for stem in stems), ("2008_000001", "train")])
    ]
    annotations = [
        {"image_id": i, "category_id": category, "segmentation": run_lengths(quarters(*mask))}
        for i in range(3)
        for category, mask in ((2, (1, 1, 0, 0)), (9, (0, 1, 0, 0)), (458, (0, 0, 1, 0)), (1, (0, 0, 0, 1)))
    ]
    write_json(home / "trainval_merged.json", {"images": images, "annos_segmentation": annotations})
    prepare(root, "context_59")
    return all_alike(stems, labelled(("aeroplane", "bag", "wood")))


def camvid(root: Path, split: str) -> Found:
    names = (
        "sky",
        "building",
        "pole",
        "road",
        "sidewalk",
        "tree",
        "sign",
        "fence",
        "car",
        "pedestrian",
        "bicyclist",
        "unlabelled",
    )
    rows = []
    for i in (1, 2):
        painted(root / f"camvid/{split}/{i}.jpg", i)
        save(root / f"camvid/{split}annot/{i}.png", quarters(0, 8, 10, 11))
        rows.append(f"{split}/{i}.jpg {split}annot/{i}.png\n")
    (root / f"camvid/{split}.txt").write_text("".join(rows))
    (root / "camvid/classes.txt").write_text("\n".join(names))
    return all_alike(("1", "2"), labelled(("sky", "car", "bicyclist")))


def seginw(root: Path, name: str, split: str, last: str, classes: int) -> Found:
    """The first and the last class; the JSON's own names of classes are not what is asked for."""
    home = root / "seginw" / name / {"val": "valid"}.get(split, split)
    images = [{"id": i, "file_name": f"{i}.jpg", "height": HEIGHT, "width": WIDTH} for i in (0, 1)]
    for image in images:
        painted(home / image["file_name"], image["id"])
    annotations = [
        {
            "id": i,
            "image_id": i,
            "category_id": classes - 1,
            "iscrowd": 0,
            "area": 96,
            "bbox": [0, 0, 12, 8],
            "segmentation": polygon(0, 0, 8, 12),
        }
        for i in (0, 1)
    ]
    categories = [{"id": i, "name": f"{name}-{i}", "supercategory": "none"} for i in range(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_json(home / "_annotations_min1cat.coco.json", content)
    return {i: {last: 96} for i in (0, 1)}


def writers(imagenet_folders: tuple[str, ...], wild: dict[str, tuple[str, ...]]) -> dict[str, Callable[[Path], Found]]:
    """Entry of the catalog -> what writes it. Of SegInW: name -> classes."""
    table: dict[str, Callable[[Path], Found]] = {}
    for split in ("train", "val"):
        table |= {
            f"coco_2017_{split}_panoptic": lambda root, s=split: coco_panoptic(root, s),
            f"coco_2017_{split}_instance": lambda root, s=split: coco_instances(root, s),
            f"coco_2017_{split}_semantic": lambda root, s=split: coco_semantic(root, s),
            f"coco_stuff_171_{split}": lambda root, s=split: coco_stuff(root, s),
            f"ade20k_panoptic_{split}": lambda root, s=split: ade(root, s, True),
            f"ade20k_sem_seg_{split}": lambda root, s=split: ade(root, s, False),
            f"ade20k_full_sem_seg_{split}": lambda root, s=split: ade_full(root, s),
            f"cityscapes_fine_sem_seg_{split}": lambda root, s=split: cityscapes(root, s, "sem_seg"),
            f"cityscapes_fine_panoptic_{split}": lambda root, s=split: cityscapes(root, s, "panoptic"),
            f"cityscapes_fine_instance_seg_{split}": lambda root, s=split: cityscapes(root, s, "instance_seg"),
        }
    for split in ("train", "restval", "val", "test"):
        table[f"coco_karpathy_{split}"] = lambda root, s=split: karpathy(root, "coco", "annotations/dataset_coco.json", s)
    for home, split in ((home, split) for home in ("flickr8k", "flickr30k") for split in ("train", "val", "test")):
        table[f"{home}_karpathy_{split}"] = lambda root, h=home, s=split: karpathy(root, h, f"dataset_{h}.json", s)
    for data, folder, by in (("refcoco", "refcoco", "unc"), ("refcocop", "refcoco+", "unc"), ("refcocog",) * 2 + ("umd",)):
        for split in ("train", "val", *(("testA", "testB") if by == "unc" else ("test",))):
            table[f"{data}_{split}_{by}"] = lambda root, f=folder, b=by, s=split: refer(root, f, b, s, True)
            table[f"refer_{data}_{split}_{by}"] = lambda root, f=folder, b=by, s=split: refer(root, f, b, s, False)
    for split in ("train", "val", "testA", "testB"):
        table[f"grefcoco_{split}_unc"] = lambda root, s=split: grefcoco(root, s)
    for subset in ("metaclip", "sa1b", "attributes", "crowded", "wiki_common", "food", "sports"):
        table[f"saco_gold_{subset}"] = lambda root, s=subset: saco(root, s)
    for split in ("train", "val"):
        table[f"refcocog_{split}_google"] = lambda root, s=split: refer(root, "refcocog", "google", s, True)
        table[f"refer_refcocog_{split}_google"] = lambda root, s=split: refer(root, "refcocog", "google", s, False)
    for split in ("train", "test"):
        table[f"flickr8k_{split}"] = lambda root, s=split: flickr8k(root, s)
    for split in ("train", "val", "test"):
        table[f"camvid_{split}"] = lambda root, s=split: camvid(root, s)
    for split, folder in (("train2014",) * 2, ("val2014",) * 2, ("test-dev2015", "test2015")):
        table[f"vqav2_{split}"] = lambda root, s=split, f=folder: vqa(root, s, f)
    for number in (21, 38, 41):
        table[f"scannet_{number}_val_seg"] = lambda root, n=number: scannet(root, n)
    for name, classes in wild.items():
        for split in ("val", "train", "train_10shot"):
            table[f"seginw_{name}_{split}"] = lambda root, n=name, s=split, c=classes: seginw(root, n, s, c[-1], len(c))
    return table | {
        "scannet_21_panoptic_val": lambda root: scannet(root, None),
        "sunrgbd_37_val_seg": sun,
        "bdd10k_val_sem_seg": lambda root: bdd(root, False),
        "bdd10k_40_panoptic_val": lambda root: bdd(root, True),
        "voc_20_val_seg": lambda root: voc(root, False),
        "voc_20b_val_seg": lambda root: voc(root, True),
        "context_59_val_seg": lambda root: context(root, 59),
        "context_459_val_seg": lambda root: context(root, 459),
        "imagenet_val": lambda root: imagenet(root, imagenet_folders),
    }
