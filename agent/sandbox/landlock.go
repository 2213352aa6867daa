package sandbox

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Rules are the folders and files that the process may use beside those of the system. What is missing when [Sandbox.Enter] is
// called stays out of reach, except through the broker.
type Rules struct {
	Read  []string // and everything below
	Write []string // likewise: read, write, make, rename, remove
	// Programs are those that [Run] may run, each with its arguments; Environ is what they find in their environment.
	Programs [][]string
	Environ  []string
}

// Rights of Landlock's ABI 1, and what later ones add to writing.
const (
	readRights  = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	runRights   = readRights | unix.LANDLOCK_ACCESS_FS_EXECUTE
	writeRights = readRights | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE |
		unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_SYM | unix.LANDLOCK_ACCESS_FS_REFER | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	allRights = runRights | writeRights | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK
	// fileRights are those that a rule for a file may have.
	fileRights = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_EXECUTE |
		unix.LANDLOCK_ACCESS_FS_TRUNCATE
)

// system is what every program needs of a Linux system, and the agent of the kernel. Not /run: the folders of other programs of
// the user are in /run/user. Not /home, /root, /tmp, /srv, /media, /mnt, /var.
var system = []struct {
	rights uint64
	paths  []string
}{
	// Programs of the private engine (dbus-daemon, wpa_supplicant) and of doctor (nft), and their libraries.
	{runRights, []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store"}},
	{readRights, []string{"/etc", "/proc", "/sys", "/dev/random", "/dev/urandom", "/dev/rfkill", "/var/lib/nigh",
		// The files of managers of networks, where resolv.conf often leads to.
		"/run/systemd", "/run/NetworkManager", "/run/resolvconf", "/run/connman", "/run/network", "/run/wpa_supplicant", "/run/dbus",
	}},
	{writeRights, []string{"/dev/null", "/proc/sys/net"}}, // of sysctls, those of the interfaces of groups
}

// version returns the ABI of Landlock in this kernel, or why there is none, as a sentence without a capital.
func version() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(abi), nil
	case unix.ENOSYS:
		return 0, errors.New("this kernel has no Landlock; Linux 5.13 or later can have it")
	case unix.EOPNOTSUPP:
		return 0, errors.New("this kernel has Landlock switched off; add landlock to lsm= on its command line")
	case unix.EPERM:
		return 0, errors.New("a filter of system calls keeps this process from Landlock")
	}
	return 0, fmt.Errorf("the kernel refuses Landlock: %w", errno)
}

// restrict puts the rules in force for every thread of the process, for its children, and for good.
func restrict(abi int, r Rules) error {
	handled := uint64(allRights)
	if abi < 2 {
		handled &^= unix.LANDLOCK_ACCESS_FS_REFER // refused everywhere by itself
	}
	if abi < 3 {
		handled &^= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: handled}
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr.Handled_access_fs), 0)
	if errno != 0 {
		return fmt.Errorf("sandbox: make a ruleset: %w", errno)
	}
	defer func() { _ = unix.Close(int(ruleset)) }()
	allow := func(paths []string, rights uint64) error {
		for _, path := range paths {
			if err := allow(int(ruleset), path, rights&handled); err != nil {
				return fmt.Errorf("sandbox: rule for %s: %w", path, err)
			}
		}
		return nil
	}
	for _, s := range system {
		if err := allow(s.paths, s.rights); err != nil {
			return err
		}
	}
	if err := errors.Join(allow(r.Read, readRights), allow(r.Write, writeRights)); err != nil {
		return err
	}
	// Landlock asks for this: no program that is run gets rights that we do not have.
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); errno != 0 {
		if errno == unix.ENOTSUP {
			return errors.New("sandbox: this program was built with C in it")
		}
		return fmt.Errorf("sandbox: no new privileges: %w", errno)
	}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return fmt.Errorf("sandbox: restrict: %w", errno)
	}
	return nil
}

// allow adds a rule for path; one that is not there needs none.
func allow(ruleset int, path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, os.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= fileRights
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights, Parent_fd: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
