"""Fine-tunes and measures the 25 sets of Segmentation in the Wild one by one, with several seeds, and tells mean and median.

python demo/seginw.py --weights FILE [--shots 10shot|all] [--sets Elephants,Cows] [--seeds 0,1,2] [key=value ...]

A set and a seed that are measured already are not run again. Zero-shot numbers need no training:
python eval.py configs/xdecoder/focal_t.yaml --checkpoint FILE --datasets seginw --save-predictions
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, pstdev

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms beside this one are not installed

from datasets.catalog.wild import NAMES
from trainer.commands import guarded
from trainer.evaluation.wild import aggregate
from xdecoder.config import ConfigError
from xdecoder.files import read_json, write_json

CONFIG = "configs/finetune/seginw.yaml"
Run = Callable[[Sequence[str]], int]


def main(arguments: Sequence[str] | None = None, run: Run | None = None) -> int:
    """Read the command line and work; `run` is what starts train.py and eval.py."""
    options = _parser().parse_args(arguments)
    return guarded(lambda: _main(options, run or _start), debug=False)


def _main(options: argparse.Namespace, run: Run) -> int:
    unknown = [name for name in options.sets if name not in NAMES]
    if unknown:
        raise ConfigError(f"--sets: {unknown[0]!r} is none of the 25 sets; they are {', '.join(NAMES)}")
    scores: dict[int, dict[str, float]] = {}
    for seed in options.seeds:
        found: dict[str, float] = {}
        for name in options.sets:
            folder = options.output / f"{options.shots}/{name}/seed{seed}"
            if not (folder / "results.json").is_file():
                status = _learn(options, name, seed, folder, run)
                if status:
                    return status
            key = f"seginw_{name}_val/AP"
            found[key] = read_json(folder / "results.json")[key]
        scores[seed] = aggregate(found) or found
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.1f}" for name, value in scores[seed].items()))
    summary = {
        name: {"mean": mean(row[name] for row in scores.values()), "spread": pstdev(row[name] for row in scores.values())}
        for name in scores[options.seeds[0]]
    }
    for name, row in summary.items():
        print(f"{name}: {row['mean']:.1f} ± {row['spread']:.1f} over {len(scores)} seeds")
    write_json(options.output / f"{options.shots}/summary.json", {"seeds": scores, "summary": summary})
    return 0


def _learn(options: argparse.Namespace, name: str, seed: int, folder: Path, run: Run) -> int:
    split = "train" if options.shots == "all" else "train_10shot"
    settings = [
        CONFIG,
        f"data.train.0.dataset=seginw_{name}_{split}",
        f"data.evaluate.0.dataset=seginw_{name}_val",
        f"seed={seed}",
        f"output={folder}",
        *options.settings,
    ]
    return run(["train.py", *settings, f"weights={options.weights}"]) or run(["eval.py", *settings, "--images", "0"])


def _start(line: Sequence[str]) -> int:
    return subprocess.run([sys.executable, *line], cwd=ROOT, check=False).returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--weights", required=True, metavar="FILE", help="what each fine-tuning starts from")
    parser.add_argument(
        "--shots", choices=["10shot", "all"], default="10shot", help="pictures of a class (default: %(default)s)"
    )
    parser.add_argument("--sets", type=_list, default=list(NAMES), metavar="NAME,...", help="(default: all 25)")
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in _list(text)], default=[0, 1, 2], metavar="N,...")
    parser.add_argument("--output", type=Path, default=Path("runs/seginw"), metavar="FOLDER", help="(default: %(default)s)")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="settings of the experiment")
    return parser


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main())
