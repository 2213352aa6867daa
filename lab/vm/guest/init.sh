#!/bin/busybox sh
# First process of the guest: builds the root folder out of the host's, the guest layer and a tmpfs, then hands over to
# the agent, or to systemd which starts the agent.
b=/bin/busybox

fail() {
	echo "lab: guest: $*" >/dev/console
	$b sync
	echo b >/proc/sysrq-trigger
	while :; do $b sleep 60; done
}

$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
for m in @MODULES@; do
	$b insmod "/modules/$m" || fail "cannot load $m"
done

# cache=loose: the host's files do not change while the guest lives, and every trip over 9p is slow.
read9p=trans=virtio,version=9p2000.L,msize=1048576,ro,cache=loose
$b mount -t 9p -o $read9p host /host || fail "cannot mount the host's root folder"
$b mount -t 9p -o $read9p guest /guest || fail "cannot mount the guest layer"
$b mount -t tmpfs -o mode=755 tmpfs /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/guest:/host,upperdir=/rw/upper,workdir=/rw/work overlay /new || fail "cannot mount the overlay"

$b mount --move /proc /new/proc
$b mount --move /sys /new/sys
$b mount --move /dev /new/dev
$b mount -t tmpfs -o mode=755 tmpfs /new/run
$b mount -t tmpfs -o mode=1777 tmpfs /new/tmp
$b mkdir -p /new/run/lab /new/run/lock /new/dev/pts /new/dev/shm
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
$b mount -t tmpfs -o mode=1777 tmpfs /new/dev/shm
$b ln -sf /proc/self/fd /new/dev/fd
$b ln -sf /proc/self/fd/0 /new/dev/stdin
$b ln -sf /proc/self/fd/1 /new/dev/stdout
$b ln -sf /proc/self/fd/2 /new/dev/stderr
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=1048576,rw,cache=none share /new/run/lab || fail "cannot mount the shared folder"
if [ -f /new/run/lab/folders ]; then
	while read -r tag path; do
		$b mkdir -p "/new$path" && $b mount -t 9p -o $read9p "$tag" "/new$path" || fail "cannot mount $path"
	done </new/run/lab/folders
fi
$b hostname nigh-lab
echo nigh-lab >/new/etc/hostname
[ -s /new/etc/machine-id ] || echo 6e6967686c61626e6967686c61620001 >/new/etc/machine-id

# What the packages' own scripts would have made, when the host does not have them installed.
for u in messagebus:990 systemd-network:989; do
	$b grep -q "^${u%:*}:" /new/etc/passwd || echo "${u%:*}:x:${u#*:}:${u#*:}::/nonexistent:/usr/sbin/nologin" >>/new/etc/passwd
	$b grep -q "^${u%:*}:" /new/etc/group || echo "${u%:*}:x:${u#*:}:" >>/new/etc/group
done
$b grep -q "^netdev:" /new/etc/group || echo "netdev:x:988:" >>/new/etc/group

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
if [ -d /new/run/lab/systemd ]; then
	$b mkdir -p /new/run/systemd/system
	$b cp /new/run/lab/systemd/* /new/run/systemd/system/
	# Nothing that the host happens to have enabled, only what units bring by themselves.
	$b rm -rf /new/etc/systemd/system/*.wants /new/etc/systemd/system/*.requires
	# Of no use here, and each costs a process.
	for u in systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount sys-kernel-debug.mount \
		sys-kernel-tracing.mount sys-kernel-config.mount dev-hugepages.mount timers.target systemd-update-utmp.service \
		modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service modprobe@loop.service; do
		$b ln -s /dev/null "/new/run/systemd/system/$u"
	done
	# When the host is a container, the mark of that would make systemd behave as in one.
	$b rm -f /new/.dockerenv
	exec $b switch_root /new /lib/systemd/systemd --unit=nigh-lab.target --show-status=no
fi
exec $b switch_root /new /bin/sh /run/lab/agent.sh
fail "cannot start the agent"
