# Completion of nigh for fish. Nothing on the line is evaluated: its words are
# arguments of nigh, and fish quotes what it puts on the line.

function __nigh_complete
    set -l words (commandline -opc)
    command -q $words[1]; or return
    set -l typed (commandline -ct)
    set -l current (string unescape -- $typed)
    or set current (string trim --left --chars '\'"' -- $typed)
    set -l flag (string match -r -- '^-[^=]*=' "$current")
    or set flag ''
    set -l lines (command $words[1] __complete $words[2..-1] "$current" 2>/dev/null)
    set -l directive (string match -r -- '^:\K[0-9]+$' "$lines[-1]"); or return
    set -e lines[-1]
    if test (count $lines) -gt 0
        printf '%s\n' $flag$lines
    else if test (math "floor($directive / 4) % 2") -eq 0
        __fish_complete_path "$current"
    end
end

complete -c nigh -e
complete -c nigh -f -a '(__nigh_complete)'
