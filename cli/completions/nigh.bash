# Completion of nigh for bash. Nothing on the line is evaluated: nigh reads the
# line itself, and what it answers is quoted for the line.

_nigh() {
	local directive
	mapfile -t COMPREPLY < <("$1" __complete_bash "$COMP_WORDBREAKS" "$COMP_TYPE" "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
	directive=${COMPREPLY[0]-}
	COMPREPLY=("${COMPREPLY[@]:1}")
	if [[ $directive == *nospace* ]]; then compopt -o nospace; fi
	if [[ $directive == *nofiles* ]]; then compopt +o default; fi
}

complete -o default -F _nigh nigh
