"""The Java programs behind the COCO caption scores, as the package pycocoevalcap carries them: words, METEOR, SPICE.

They are used where Java and that package are installed, and missed nowhere else.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from datasets.evaluators.ptb import tokenise

_WORDS_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_METEOR_JAR = "meteor/meteor-1.5.jar"
_SPICE_JAR = "spice/spice-1.0.jar"
_SPICE_MODELS = "spice/lib/stanford-corenlp-3.6.0-models.jar"
# Brackets stay: the official list spells -lrb- and the like in capitals, which the lower-cased words never are.
_MARKS = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))


class MissingToolError(ValueError):
    """A program that is not installed or does not run; the message says which and what would help."""


def words(texts: Sequence[str], official: bool) -> list[str]:
    """Each text in words with one space between them, by the Java program or by our own rules; raises MissingToolError."""
    if not official:
        return [" ".join(tokenise(text)) for text in texts]
    lines = "\n".join(" ".join(text.splitlines()) for text in texts)
    command = ["-cp", str(_jar(_WORDS_JAR)), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    said = _java([*command, "-encoding", "UTF-8"], lines + "\n").split("\n")
    if len(said) < len(texts):
        raise MissingToolError(f"Java's PTBTokenizer gave {len(said)} lines for {len(texts)} captions")
    return [" ".join(word for word in line.rstrip().split(" ") if word not in _MARKS) for line in said[: len(texts)]]


def meteor(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """METEOR 1.5 (Denkowski and Lavie, 2014) of a corpus, 0..1, from texts cut into words; raises MissingToolError."""
    command = ["java", "-Xmx2G", "-jar", str(_jar(_METEOR_JAR)), "-", "-", "-stdio", "-l", "en", "-norm"]
    try:
        with subprocess.Popen(
            command,
            encoding="utf-8",
            cwd=tempfile.gettempdir(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as program:
            return _meteor(program, candidates, references)
    except (BrokenPipeError, ValueError):
        raise MissingToolError(f"{' '.join(command[:4])} broke off; it needs 2 GB of memory") from None


def _meteor(program: subprocess.Popen[str], candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    asked, answers = program.stdin, program.stdout
    assert asked and answers

    def ask(line: str) -> str:
        asked.write(line + "\n")
        asked.flush()
        return answers.readline().strip()

    bare = [candidate.replace("|||", "").replace("  ", " ") for candidate in candidates]
    counts = [ask(f"SCORE ||| {' ||| '.join(many)} ||| {one}") for one, many in zip(bare, references, strict=True)]
    ask(f"EVAL ||| {' ||| '.join(counts)}")
    return float([answers.readline() for _ in candidates][-1])  # one a caption, of which `ask` took the first, then of all


def spice(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """SPICE (Anderson et al., ECCV 2016), 0..1: the mean F-score of scene graphs; raises MissingToolError."""
    _jar(_SPICE_MODELS)
    rows = [{"image_id": i, "test": one, "refs": list(many)} for i, (one, many) in enumerate(zip(candidates, references))]
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder) / "captions.json", Path(folder) / "scores.json"
        asked.write_text(json.dumps(rows), encoding="utf-8")
        _java(["-Xmx8G", "-jar", str(_jar(_SPICE_JAR)), str(asked), "-out", str(answer), "-subset", "-silent"], "")
        scores = [row["scores"]["All"]["f"] for row in json.loads(answer.read_text(encoding="utf-8"))]
    return sum(scores) / len(scores)


def available() -> bool:
    """Whether the programs for words and METEOR can be run."""
    try:
        return bool(_jar(_METEOR_JAR))
    except MissingToolError:
        return False


def _jar(name: str) -> Path:
    if shutil.which("java") is None:
        raise MissingToolError("Java is not installed")
    found = importlib.util.find_spec("pycocoevalcap")
    if found is None or not found.submodule_search_locations:
        raise MissingToolError("pycocoevalcap, which carries the program, is not installed (pip install '.[metrics]')")
    path = Path(found.submodule_search_locations[0]) / name
    if not path.is_file():
        raise MissingToolError(f"{path} is not there; pycocoevalcap downloads it when its Spice() is first made")
    return path


def _java(arguments: Sequence[str], text: str) -> str:
    done = subprocess.run(
        ["java", *arguments], input=text, capture_output=True, encoding="utf-8", check=False, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingToolError(f"java {' '.join(arguments[:3])} … ended with status {done.returncode} ({reason})")
    return done.stdout
