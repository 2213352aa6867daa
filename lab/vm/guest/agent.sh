# Agent of the guest: runs the commands that the host names on the control port, one after another.
# A line is: NUMBER TERMINAL ROWS COLUMNS. The command itself is the script /run/lab/NUMBER.sh.
# After a command comes a marker, NUL TOKEN SPACE STATUS NEWLINE, in the channel that had its output.
for p in /sys/class/virtio-ports/*; do
	read -r name 2>/dev/null <"$p/name" || continue
	case $name in
	nigh.control) control=/dev/${p##*/} ;;
	nigh.output) output=/dev/${p##*/} ;;
	nigh.size) size=/dev/${p##*/} ;;
	esac
done
read -r token </run/lab/token
exec 3<>"$control" 4>"$output"
ip link set lo up
(
	exec 3>&- 4>&-
	while read -r rows columns; do
		stty -F /dev/hvc0 rows "$rows" cols "$columns"
	done <"$size"
) >/dev/console 2>&1 &
echo ready >&3
while read -r number terminal rows columns <&3; do
	if [ "$terminal" = 1 ]; then
		# Held open: the size is lost with the last close.
		exec 5<>/dev/hvc0
		stty sane rows "$rows" cols "$columns" <&5
		# The session's first process outlives the command, whatever keys are typed, to print the marker. Its own end hangs the
		# terminal up, which drops output that is still on its way: stty waits until none is.
		setsid -c -w sh -c 'trap : INT QUIT TERM HUP TSTP
			sh "/run/lab/$0.sh"; printf "\0%s %s\n" "$1" $?; stty sane' "$number" "$token" <&5 >&5 2>&1 3>&- 4>&- 5>&-
		exec 5>&-
	else
		sh "/run/lab/$number.sh" </dev/null >&4 2>&4 3>&- 4>&-
		printf '\0%s %s\n' "$token" $? >&4
	fi
done
# The host closed the control port, or is gone.
sync
echo b >/proc/sysrq-trigger
