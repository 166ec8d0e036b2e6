"""What a shell needs to complete the command `xdecoder`: eval "$(xdecoder completion bash)"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_xdecoder() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" offered=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        offered="{commands}"
    elif [ "$before" = --checkpoint ] || [ "$before" = --weights ]; then
        COMPREPLY=($(compgen -W "{weights}" -- "$word") $(compgen -f -- "$word"))
        return
    else
        case "${{COMP_WORDS[1]}}:$word" in
{cases}
        esac
    fi
    COMPREPLY=($(compgen -W "$offered" -- "$word"))
}}
complete -o default -F _xdecoder xdecoder
"""


def script(shell: str, options: Mapping[str, Sequence[str]], weights: Sequence[str]) -> str:
    """The lines that a shell reads; what is neither a command, an option nor published weights is completed as a file.

    Args:
        shell: one of `SHELLS`.
        options: of each command.
        weights: names that stand for networks.
    """
    if shell == "fish":
        lines = ["complete -c xdecoder -n __fish_use_subcommand -f -a '{}'".format(" ".join(options))]
        for command, own in options.items():
            lines += [f"complete -c xdecoder -n '__fish_seen_subcommand_from {command}' -l {name[2:]}" for name in own]
        lines += [f"complete -c xdecoder -l {name} -a '{' '.join(weights)}'" for name in ("checkpoint", "weights")]
        return "\n".join(lines) + "\n"
    cases = "\n".join(f'            {name}:-*) offered="{" ".join(own)}" ;;' for name, own in options.items())
    text = _BASH.format(commands=" ".join(options), weights=" ".join(weights), cases=cases)
    return text if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{text}"
