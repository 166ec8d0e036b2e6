"""Files as the published ones are, for tests: written from the facts about their keys."""

from __future__ import annotations

import copy
from typing import Any

_SECTION = {
    "INPUT": {"PIXEL_MEAN": [123.675, 116.280, 103.530], "PIXEL_STD": [58.395, 57.120, 57.375], "FORMAT": "RGB"},
    "DATALOADER": {
        "FILTER_EMPTY_ANNOTATIONS": False,
        "NUM_WORKERS": 0,
        "LOAD_PROPOSALS": False,
        "ASPECT_RATIO_GROUPING": False,
    },
}


def _section(minimum: int, maximum: int, batch: int, **more: Any) -> dict[str, Any]:
    section = copy.deepcopy(_SECTION)
    section["INPUT"] |= {"MIN_SIZE_TEST": minimum, "MAX_SIZE_TEST": maximum}
    return {**section, "TEST": {"BATCH_SIZE_TOTAL": batch}, **more}


SVLP_FOCAL_T: dict[str, Any] = {
    "WEIGHT": "",
    "PORT": 53711,
    "VERBOSE": True,
    "SAVE_DIR": "out",
    "CLASS_CONCAT": False,
    "MODEL": {
        "NAME": "xdecoder_model",
        "HEAD": "xdecoder_head",
        "MASK_ON": False,
        "KEYPOINT_ON": False,
        "LOAD_PROPOSALS": False,
        "DIM_PROJ": 512,
        "BACKBONE_DIM": 768,
        "SOMETHING_FORGOTTEN": 3,
        "TEXT": {
            "ARCH": "vlpencoder",
            "NAME": "transformer",
            "TOKENIZER": "clip",
            "CONTEXT_LENGTH": 77,
            "WIDTH": 512,
            "HEADS": 8,
            "LAYERS": 12,
            "AUTOGRESSIVE": True,
        },
        "BACKBONE": {
            "NAME": "focal_dw",
            "PRETRAINED": "",
            "LOAD_PRETRAINED": False,
            "FOCAL": {
                "PRETRAIN_IMG_SIZE": 224,
                "PATCH_SIZE": 4,
                "EMBED_DIM": 96,
                "DEPTHS": [2, 2, 6, 2],
                "FOCAL_LEVELS": [3, 3, 3, 3],
                "FOCAL_WINDOWS": [3, 3, 3, 3],
                "DROP_PATH_RATE": 0.2,
                "MLP_RATIO": 4.0,
                "DROP_RATE": 0.0,
                "PATCH_NORM": True,
                "USE_CONV_EMBED": True,
                "SCALING_MODULATOR": True,
                "USE_CHECKPOINT": False,
                "USE_POSTLN": True,
                "USE_POSTLN_IN_MODULATION": False,
                "USE_LAYERSCALE": True,
                "OUT_FEATURES": ["res2", "res3", "res4", "res5"],
                "OUT_INDICES": [0, 1, 2, 3],
            },
        },
        "ENCODER": {
            "NAME": "transformer_encoder_fpn",
            "IGNORE_VALUE": 255,
            "NUM_CLASSES": 133,
            "LOSS_WEIGHT": 1.0,
            "CONVS_DIM": 512,
            "MASK_DIM": 512,
            "NORM": "GN",
            "IN_FEATURES": ["res2", "res3", "res4", "res5"],
            "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"],
            "COMMON_STRIDE": 4,
            "TRANSFORMER_ENC_LAYERS": 6,
        },
        "DECODER": {
            "NAME": "xdecoder",
            "TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder",
            "MASK": True,
            "GROUNDING": {"ENABLED": True, "MAX_LEN": 5, "TEXT_WEIGHT": 2.0, "CLASS_WEIGHT": 0.5},
            "DETECTION": False,
            "CAPTION": {"ENABLED": True, "PHRASE_PROB": 0.0, "SIM_THRES": 0.95},
            "CAPTIONING": {"ENABLED": True, "STEP": 50},
            "RETRIEVAL": {"ENABLED": True, "DIM_IMG": 768, "ENSEMBLE": True},
            "HIDDEN_DIM": 512,
            "NUM_OBJECT_QUERIES": 101,
            "NHEADS": 8,
            "DROPOUT": 0.0,
            "DIM_FEEDFORWARD": 2048,
            "PRE_NORM": False,
            "ENFORCE_INPUT_PROJ": False,
            "SIZE_DIVISIBILITY": 32,
            "TRAIN_NUM_POINTS": 12544,
            "OVERSAMPLE_RATIO": 3.0,
            "IMPORTANCE_SAMPLE_RATIO": 0.75,
            "DEC_LAYERS": 10,
            "TOP_GROUNDING_LAYERS": 3,
            "TOP_CAPTION_LAYERS": 3,
            "TOP_CAPTIONING_LAYERS": 3,
            "TOP_RETRIEVAL_LAYERS": 3,
            "TEST": {
                "SEMANTIC_ON": True,
                "INSTANCE_ON": True,
                "PANOPTIC_ON": True,
                "OVERLAP_THRESHOLD": 0.8,
                "OBJECT_MASK_THRESHOLD": 0.8,
                "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,
            },
        },
    },
    "DATASETS": {
        "TEST": ["coco_2017_val_panoptic_with_sem_seg", "ade20k_panoptic_val"],
        "SIZE_DIVISIBILITY": 32,
        "PROPOSAL_FILES_TRAIN": [],
    },
    "INPUT": _SECTION["INPUT"],
    "DATALOADER": {"NUM_WORKERS": 4, "ASPECT_RATIO_GROUPING": True},
    "COCO": _section(800, 1333, 8, DATASET={"DATASET": "coco"}),
    "VLP": {
        "INPUT": {"IMAGE_SIZE": 224},
        "TRAIN": {"BATCH_SIZE_TOTAL": 2, "BATCH_SIZE_PER_GPU": 2},
        "TEST": {"BATCH_SIZE_TOTAL": 256},
    },
    "ADE20K": _section(640, 2560, 8),
    "REF": _section(512, 1024, 8),
}


def training_file() -> dict[str, Any]:
    """With what the older file lacks."""
    tree = copy.deepcopy(SVLP_FOCAL_T)
    tree |= {"WEIGHT": False, "RESUME": False, "RESUME_FROM": "", "FP16": True, "GRADIENT_ACCUMULATE_STEP": 2}
    tree["DATASETS"]["TRAIN"] = ["coco_2017_train_panoptic_filtall_with_sem_seg_caption_grounding", "vlp_train"]
    tree["COCO"]["INPUT"] |= {"IMAGE_SIZE": 1024, "MIN_SCALE": 0.1, "MAX_SCALE": 2.0}
    tree["COCO"]["TRAIN"] = {"BATCH_SIZE_TOTAL": 8, "BATCH_SIZE_PER_GPU": 1, "SHUFFLE": True}
    tree["MODEL"]["DECODER"] |= {"CAPTIONING_WEIGHT": 8, "RETRIEVAL_WEIGHT": 8, "TOP_GROUNDING_LAYERS": 6}
    tree["SOLVER"] = {
        "BASE_LR": 0.0002,
        "STEPS": [0.5, 0.75],
        "GAMMA": 0.2,
        "WARMUP_ITERS": 10,
        "WARMUP_FACTOR": 1.0,
        "WEIGHT_DECAY": 0.01,
        "LR_MULTIPLIER": {"backbone": 0.3, "lang_encoder": 0.1},
        "MAX_NUM_EPOCHS": 50,
        "CLIP_GRADIENTS": {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 3.0, "NORM_TYPE": 2.0},
    }
    return tree


def small_file() -> dict[str, Any]:
    """A network that a test can build; it has eight attention heads, as all published ones."""
    tree = copy.deepcopy(SVLP_FOCAL_T)
    model = tree["MODEL"]
    model |= {"DIM_PROJ": 64, "BACKBONE_DIM": 128}
    model["TEXT"] |= {"CONTEXT_LENGTH": 20, "WIDTH": 64, "LAYERS": 1}
    model["BACKBONE"]["FOCAL"] |= {"EMBED_DIM": 16, "DEPTHS": [1, 1, 1, 1], "FOCAL_LEVELS": [2] * 4}
    model["ENCODER"] |= {"CONVS_DIM": 64, "MASK_DIM": 64, "TRANSFORMER_ENC_LAYERS": 1}
    model["DECODER"] |= {"HIDDEN_DIM": 64, "NUM_OBJECT_QUERIES": 21, "DIM_FEEDFORWARD": 64, "DEC_LAYERS": 4}
    model["DECODER"]["CAPTIONING"] = {"ENABLED": True, "STEP": 4}
    return tree
