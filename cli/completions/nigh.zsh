#compdef nigh
compdef _nigh nigh

# Completion of nigh for zsh. Nothing on the line is evaluated: (Q) only takes the
# quotes away, and compadd quotes what it puts on the line.

_nigh() {
	local -a lines names shown with
	local line current=$compstate[quote]$PREFIX$compstate[quote]
	local -i directive
	current=${(Q)current}
	lines=("${(@f)$("${(Q)words[1]}" __complete "${(@Q)words[2,CURRENT-1]}" "$current" 2>/dev/null)}")
	directive=${${lines[-1]}#:}
	lines[-1]=()
	for line in "${(@)lines}"; do
		names+=("${line%%$'\t'*}")
		shown+=("${line/$'\t'/  -- }")
	done
	if [[ $current == -*=* ]]; then compset -P '*='; fi
	if ((directive & 2)); then with=(-S ''); fi
	if ((${#names})); then
		compadd -l -d shown "${(@)with}" -M 'm:{a-zA-Z}={A-Za-z}' -a names
	elif ((!(directive & 4))); then
		_files
	else
		return 1
	fi
}

if [[ $funcstack[1] == _nigh ]]; then _nigh; fi
