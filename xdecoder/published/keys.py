"""The keys of the published YAML files, with the values that Focal-T's has."""

from __future__ import annotations

from typing import Any

_PIXELS = {"PIXEL_MEAN": [123.675, 116.280, 103.530], "PIXEL_STD": [58.395, 57.120, 57.375]}
_INPUT: dict[str, Any] = {
    "MIN_SIZE_TRAIN": None, "MAX_SIZE_TRAIN": None, "MIN_SIZE_TRAIN_SAMPLING": "choice", "MIN_SIZE_TEST": 800,
    "MAX_SIZE_TEST": 1333,
    "IMAGE_SIZE": 1024, "MIN_SCALE": 0.1, "MAX_SCALE": 2.0, "DATASET_MAPPER_NAME": "", "IGNORE_VALUE": 255,
    "COLOR_AUG_SSD": False,
    "SIZE_DIVISIBILITY": 32, "RANDOM_FLIP": "horizontal", "MASK_FORMAT": "polygon", "FORMAT": "RGB", **_PIXELS,
    "CROP": {"ENABLED": True, "TYPE": "", "SIZE": None, "SINGLE_CATEGORY_MAX_AREA": 1.0},
}  # fmt: skip
_LOADER = {
    "FILTER_EMPTY_ANNOTATIONS": False, "NUM_WORKERS": 2, "LOAD_PROPOSALS": False, "SAMPLER_TRAIN": "TrainingSampler",
    "ASPECT_RATIO_GROUPING": True,
}  # fmt: skip


def _section(train: int, test: int, **sizes: Any) -> dict[str, Any]:
    """The block of one data set: batches over all processes, and its picture sizes."""
    per_set = {"BATCH_SIZE_PER_GPU": 1, "ASPECT_RATIO_GROUPING": True, "USE_SHUFFLE": True, "SHUFFLE": True}
    measured = {
        "DETECTIONS_PER_IMAGE": 100, "NAME": "", "IOU_TYPE": None, "USE_MULTISCALE": False, "MODEL_FILE": "", "AUG": None,
        "EVAL_PERIOD": 5000, "BATCH_SIZE_TOTAL": test,
    }  # fmt: skip
    return {
        "INPUT": {**_INPUT, **sizes},
        "DATASET": {"DATASET": ""},
        "TRAIN": {**per_set, "BATCH_SIZE_TOTAL": train},
        "TEST": measured,
        "DATALOADER": _LOADER,
    }


_WEIGHTS = {
    "CAPTION_WEIGHT": 1.0, "CAPTIONING_WEIGHT": 2.0, "RETRIEVAL_WEIGHT": 2.0, "BACKBONER_WEIGHT": 8.0, "GCLASS_WEIGHT": 0.4,
    "GMASK_WEIGHT": 1.0, "GDICE_WEIGHT": 1.0, "OCLASS_WEIGHT": 0.4, "OMASK_WEIGHT": 1.0, "ODICE_WEIGHT": 1.0,
    "CLASS_WEIGHT": 2.0,
    "MASK_WEIGHT": 5.0, "DICE_WEIGHT": 5.0, "BBOX_WEIGHT": 5.0, "GIOU_WEIGHT": 2.0,
}  # fmt: skip
_DECODER = {
    "NAME": "xdecoder", "TRANSFORMER_IN_FEATURE": "multi_scale_pixel_decoder", "MASK": None, "DETECTION": False,
    "SPATIAL": None, "VQA": {"ENABLED": False},
    "GROUNDING": {"ENABLED": True, "MAX_LEN": 5, "TEXT_WEIGHT": 2.0, "CLASS_WEIGHT": 0.5},
    "CAPTION": {"ENABLED": True, "PHRASE_PROB": 0.0, "SIM_THRES": 0.95},
    "CAPTIONING": {"ENABLED": True, "STEP": 50},
    "RETRIEVAL": {"ENABLED": True, "DIM_IMG": 768, "ENSEMBLE": True},
    "DEEP_SUPERVISION": True, "NO_OBJECT_WEIGHT": 0.1, **_WEIGHTS,
    "HIDDEN_DIM": 512, "NHEADS": 8, "DIM_FEEDFORWARD": 2048, "DROPOUT": 0.0, "PRE_NORM": False, "ENFORCE_INPUT_PROJ": False,
    "NUM_OBJECT_QUERIES": 101, "DEC_LAYERS": 10, "SIZE_DIVISIBILITY": 32,
    "TRAIN_NUM_POINTS": 12544, "OVERSAMPLE_RATIO": 3.0, "IMPORTANCE_SAMPLE_RATIO": 0.75,
    "TOP_MASK_LAYERS": 10, "TOP_GROUNDING_LAYERS": 3, "TOP_CAPTION_LAYERS": 3, "TOP_CAPTIONING_LAYERS": 3,
    "TOP_RETRIEVAL_LAYERS": 3,
    "TEST": {
        "SEMANTIC_ON": True, "INSTANCE_ON": True, "PANOPTIC_ON": True, "OVERLAP_THRESHOLD": 0.8, "OBJECT_MASK_THRESHOLD": 0.8,
        "SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,
    },
}  # fmt: skip
_FOCAL = {
    "PRETRAIN_IMG_SIZE": 224, "PATCH_SIZE": 4, "EMBED_DIM": 96, "DEPTHS": [2, 2, 6, 2], "FOCAL_LEVELS": [3, 3, 3, 3],
    "FOCAL_WINDOWS": [3, 3, 3, 3], "DROP_PATH_RATE": None, "DROP_PATH": None, "MLP_RATIO": 4.0, "DROP_RATE": 0.0, "DROP": 0.0,
    "PATCH_NORM": True, "USE_CONV_EMBED": True, "SCALING_MODULATOR": True, "USE_POSTLN": True, "USE_LAYERSCALE": True,
    "USE_CHECKPOINT": False, "USE_POSTLN_IN_MODULATION": False, "OUT_FEATURES": None, "OUT_INDICES": None,
}  # fmt: skip
_DAVIT = {
    "DROP_PATH_RATE": None, "DROP_PATH": None, "PATCH_SIZE": [7, 2, 2, 2], "PATCH_STRIDE": [4, 2, 2, 2], "STRIDE": [4, 2, 2, 2],
    "PATCH_PADDING": [3, 0, 0, 0], "PADDING": [3, 0, 0, 0], "PATCH_PRENORM": None, "PRENORM": None,
    "DIM_EMBED": [128, 256, 512, 1024],
    "NUM_HEADS": None, "HEADS": None, "NUM_GROUPS": None, "GROUPS": None, "DEPTHS": [1, 1, 9, 1],
    "MLP_RATIO": 4.0, "WINDOW_SIZE": 7, "ENABLE_CHECKPOINT": False, "QKV_BIAS": True, "OUT_FEATURES": None, "OUT_INDICES": None,
}  # fmt: skip

KEYS: dict[str, Any] = {
    "PIPELINE": "XDecoderPipeline", "TRAINER": "xdecoder", "SAVE_DIR": "../../data/output/test", "base_path": "./",
    "user_dir": None,
    "RESUME": False, "WEIGHT": None, "RESUME_FROM": "", "PYLEARN_MODEL": "", "DONT_LOAD_MODEL": True,
    "RESET_DATA_LOADER": False,
    "EVAL_AT_START": False, "WANDB": False, "LOG_EVERY": 100, "LOG_FIRST": 10, "FIND_UNUSED_PARAMETERS": False, "FP16": False,
    "PORT": "36873", "VERBOSE": True, "LOADER": {"JOINT": True, "KEY_DATASET": "coco"}, "GRADIENT_ACCUMULATE_STEP": 1,
    "CUDA": True,
    "CLASS_CONCAT": False,
    "MODEL": {
        "NAME": "xdecoder_model", "HEAD": "xdecoder_head", "MASK_ON": False, "KEYPOINT_ON": False, "LOAD_PROPOSALS": False,
        "DIM_PROJ": 512, "BACKBONE_DIM": 768, "BACKGROUND": False, "WEIGHTS": "",
        "TEXT": {
            "ARCH": "vlpencoder", "NAME": "transformer", "TOKENIZER": "clip", "CONTEXT_LENGTH": 77, "WIDTH": 512, "HEADS": 8,
            "LAYERS": 12, "AUTOGRESSIVE": True, "LOAD_PRETRAINED": False, "PRETRAINED": "",
        },
        "BACKBONE": {
            "NAME": "focal_dw", "PRETRAINED": "", "LOAD_PRETRAINED": False, "PRETRAINED_LAYERS": None, "FOCAL": _FOCAL,
            "DAVIT": _DAVIT,
        },
        "ENCODER": {
            "NAME": "transformer_encoder_fpn", "IGNORE_VALUE": 255, "NUM_CLASSES": 133, "LOSS_WEIGHT": 1.0, "CONVS_DIM": 512,
            "MASK_DIM": 512, "NORM": "GN", "IN_FEATURES": ["res2", "res3", "res4", "res5"],
            "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": ["res3", "res4", "res5"], "COMMON_STRIDE": 4,
            "TRANSFORMER_ENC_LAYERS": 6,
        },
        "DECODER": _DECODER,
    },
    "INPUT": _PIXELS,
    "DATASETS": {
        "TRAIN": ["coco_2017_train_panoptic_filtall_with_sem_seg_caption_grounding", "vlp_train"],
        "TEST": [
            "coco_2017_val_panoptic_with_sem_seg", "vlp_captioning_val", "refcocog_val_umd", "vlp_val", "ade20k_panoptic_val",
        ],
        "CLASS_CONCAT": False, "SIZE_DIVISIBILITY": 32, "PROPOSAL_FILES_TRAIN": [],
    },
    "TRAIN": {"BATCH_SIZE_TOTAL": 1, "BATCH_SIZE_PER_GPU": 1},
    "TEST": {"BATCH_SIZE_TOTAL": 1, "DETECTIONS_PER_IMAGE": 100},
    "DATALOADER": {**_LOADER, "NUM_WORKERS": 16},
    "COCO": _section(2, 8),
    "VLP": _section(2, 3, IMAGE_SIZE=224),
    "ADE20K": _section(1, 8, MIN_SIZE_TEST=640, MAX_SIZE_TEST=2560),
    "REF": _section(1, 1, MIN_SIZE_TEST=512, MAX_SIZE_TEST=1024),
    "SUN": _section(1, 8, MIN_SIZE_TEST=512, MAX_SIZE_TEST=1024),
    "SCAN": _section(1, 8, MIN_SIZE_TEST=512, MAX_SIZE_TEST=1024),
    "BDD": _section(1, 8),
    "CITY": _section(1, 8, MIN_SIZE_TEST=1024, MAX_SIZE_TEST=2048),
    "SEGINW": _section(1, 8, MIN_SIZE_TEST=512, MAX_SIZE_TEST=1024),
    "SOLVER": {
        "BASE_LR": 1e-4, "STEPS": [0.88889, 0.96296], "MAX_ITER": 1, "GAMMA": 0.1, "WARMUP_FACTOR": 1.0, "WARMUP_ITERS": 10,
        "WARMUP_METHOD": "linear", "WEIGHT_DECAY": 0.05, "WEIGHT_DECAY_NORM": 0.0, "WEIGHT_DECAY_EMBED": 0.0,
        "WEIGHT_DECAY_BIAS": 0.0,
        "OPTIMIZER": "ADAMW", "LR_SCHEDULER_NAME": "WarmupMultiStepLR", "LR_MULTIPLIER": {"backbone": 0.1, "lang_encoder": 0.1},
        "FIX_PARAM": {"backbone": False, "lang_encoder": False, "pixel_decoder": False}, "IGNORE_FIX": [],
        "CLIP_GRADIENTS": {"ENABLED": True, "CLIP_TYPE": "full_model", "CLIP_VALUE": 5.0, "NORM_TYPE": 2.0},
        "AMP": {"ENABLED": True},
        "MAX_NUM_EPOCHS": 50,
    },
}  # fmt: skip
"""None stands for a value of any kind. Keys without an effect here are known as well, so that files that have them are read."""

ONLY: dict[str, Any] = {
    "MODEL.NAME": "xdecoder_model", "MODEL.TEXT.ARCH": "vlpencoder", "MODEL.TEXT.NAME": "transformer",
    "MODEL.TEXT.TOKENIZER": "clip",
    "MODEL.TEXT.AUTOGRESSIVE": True, "MODEL.ENCODER.NORM": "GN", "MODEL.DECODER.NAME": "xdecoder",
    "MODEL.DECODER.DETECTION": False,
    "MODEL.DECODER.DROPOUT": 0.0, "MODEL.DECODER.PRE_NORM": False, "MODEL.DECODER.ENFORCE_INPUT_PROJ": False,
    "MODEL.DECODER.SIZE_DIVISIBILITY": 32, "MODEL.DECODER.TEST.SEM_SEG_POSTPROCESSING_BEFORE_INFERENCE": False,
    "INPUT.PIXEL_MEAN": _PIXELS["PIXEL_MEAN"], "INPUT.PIXEL_STD": _PIXELS["PIXEL_STD"], "SOLVER.OPTIMIZER": "ADAMW",
    "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR", "SOLVER.WARMUP_METHOD": "linear", "SOLVER.FIX_PARAM.backbone": False,
    "SOLVER.FIX_PARAM.lang_encoder": False, "SOLVER.FIX_PARAM.pixel_decoder": False, "RESUME": False,
}  # fmt: skip
"""Keys that have one value here; another one is refused, not passed over."""
