package link

import (
	"golang.org/x/sys/unix"
)

// Driver returns the name of a network interface's driver and its version, for some radios that of the firmware, as
// `ethtool -i` shows them; "" for what the driver does not say. It needs no rights.
func Driver(ifname string) (name, version string) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", ""
	}
	defer func() { _ = unix.Close(fd) }() // only asked
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, ifname)
	if err != nil {
		return "", ""
	}
	return unix.ByteSliceToString(info.Driver[:]), unix.ByteSliceToString(info.Version[:])
}
