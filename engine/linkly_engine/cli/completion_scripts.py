"""`linkly completion bash|zsh|fish`: the few lines that make a shell ask `linkly __complete`."""

from __future__ import annotations

import click

from linkly_engine.cli import command
from linkly_engine.cli.streams import say

BASH = r"""# linkly's completion for bash:  source <(linkly completion bash)
_linkly() {
    local candidate
    COMPREPLY=()
    while IFS= read -r candidate; do
        case $candidate in
            "") ;;
            :files) compopt -o default 2>/dev/null; COMPREPLY=(); return ;;
            *=) compopt -o nospace 2>/dev/null; COMPREPLY+=("$candidate") ;;
            *) COMPREPLY+=("$candidate") ;;
        esac
    done < <("$1" __complete bash "$COMP_WORDBREAKS" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -F _linkly linkly
"""

ZSH = r"""#compdef linkly
# linkly's completion for zsh:  source <(linkly completion zsh)   (behind `autoload -U compinit && compinit`)
_linkly() {
    local value description
    local -a described keys
    while IFS=$'\t' read -r value description; do
        case $value in
            "") ;;
            :files) _files; return ;;
            *=) keys+=("$value") ;;
            *) described+=(${value//:/\\:}":$description") ;;
        esac
    done < <("${words[1]}" __complete zsh "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)
    (( ${#keys} )) && compadd -S '' -- "${keys[@]}"
    (( ${#described} )) && _describe linkly described
    return 0
}
compdef _linkly linkly
"""

FISH = r"""# linkly's completion for fish:  linkly completion fish | source
function __linkly_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    for line in ($words[1] __complete fish $words[2..-1] "$current" 2>/dev/null)
        if test "$line" = ":files"
            __fish_complete_path "$current"
        else
            echo -- $line
        end
    end
end
complete -c linkly -f -a '(__linkly_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


@click.command(
    cls=command.Command,
    example="""
    source <(linkly completion bash)
    source <(linkly completion zsh)
    linkly completion fish | source
    """,
)
@click.argument("shell", type=click.Choice(list(SCRIPTS)))
def completion(shell: str) -> int:
    """Print a script that completes commands, workers, function ids and their parameters in your SHELL."""
    say(SCRIPTS[shell], end="")
    return 0
