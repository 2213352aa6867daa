package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// start is how an agent is started.
const start = "Start it: nigh agent, or as a service: sudo nigh service install."

// agent asks whether somebody listens on the local API's socket.
func agent(ctx context.Context, c Config) []Check {
	if c.Socket == "" {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	switch {
	case err == nil:
		conn.Close()
		return []Check{{"agent", OK, "The agent answers at " + c.Socket + ".", ""}}
	case errors.Is(err, fs.ErrNotExist):
		return []Check{{"agent", Warn, "No agent runs: there is no socket " + c.Socket + ".", start}}
	case errors.Is(err, syscall.ECONNREFUSED):
		return []Check{{"agent", Warn, "No agent runs; an earlier one left its socket " + c.Socket + ".", start}}
	case errors.Is(err, fs.ErrPermission):
		return nil // what the check socket is about
	default:
		return []Check{{"agent", Warn, fmt.Sprintf("The agent does not answer at %s: %v.", c.Socket, err), start}}
	}
}

// socket looks whether this user may use the local API, and who else could.
func socket(ctx context.Context, c Config) []Check {
	if c.Socket == "" {
		return nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.Socket)
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, fs.ErrPermission):
		return []Check{{"socket", Warn, fmt.Sprintf("User %d may not use the agent's socket %s.", os.Geteuid(), c.Socket),
			"Use nigh as the user whose agent it is, start an agent of your own, or set NIGH_SOCKET."}}
	}
	folder := filepath.Dir(c.Socket)
	info, err := os.Stat(folder)
	if err != nil {
		return nil // the check agent has said that there is none
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return []Check{{"socket", Warn, fmt.Sprintf("Other users can look into the socket's folder %s (mode %#o).", folder, info.Mode().Perm()),
			"chmod 700 " + folder}}
	}
	return []Check{{"socket", OK, "Only its owner can reach the socket's folder " + folder + ".", ""}}
}

// state looks at the folder without which no agent starts.
func state(_ context.Context, c Config) []Check {
	if c.State == "" {
		return nil
	}
	check := func(s State, cause, fix string) []Check { return []Check{{"state", s, cause, fix}} }
	info, err := os.Stat(c.State)
	if errors.Is(err, fs.ErrNotExist) {
		parent := Existing(c.State)
		if err := writable(parent); err != nil {
			return check(Fail, fmt.Sprintf("The state folder %s cannot be made: %v.", c.State, err), "Make it, or give another with --state.")
		}
		return check(OK, "The state folder "+c.State+" will be made at the first start.", "")
	}
	if err != nil {
		return check(Fail, fmt.Sprintf("The state folder cannot be read: %v.", err), "Give another with --state.")
	}
	if !info.IsDir() {
		return check(Fail, c.State+" is not a folder.", "Remove it, or give another with --state.")
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return check(Fail, fmt.Sprintf("The state folder %s belongs to user %d, not to user %d who runs nigh.", c.State, st.Uid, os.Geteuid()),
			"Run nigh as its owner, or give another with --state.")
	}
	if err := writable(c.State); err != nil {
		return check(Fail, fmt.Sprintf("The state folder cannot be written: %v.", err), "Make it writable for its owner.")
	}
	if info.Mode().Perm()&0o077 != 0 {
		return check(Warn, fmt.Sprintf("Other users can look into the state folder %s (mode %#o).", c.State, info.Mode().Perm()), "chmod 700 "+c.State)
	}
	return check(OK, "The state folder is "+c.State+".", "")
}

// inbox looks whether files can be received. Sending works without.
func inbox(_ context.Context, c Config) []Check {
	if c.Inbox == "" {
		return nil
	}
	check := func(s State, cause, fix string) []Check { return []Check{{"inbox", s, cause, fix}} }
	folder := Existing(c.Inbox)
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return check(Warn, "Nothing can be received: "+folder+" is not a folder.", "Choose another with the setting inbox.")
	}
	if err := writable(folder); err != nil {
		return check(Warn, fmt.Sprintf("Nothing can be received into %s: %v.", c.Inbox, err), "Make it writable, or choose another with the setting inbox.")
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return check(Warn, fmt.Sprintf("The free space for %s cannot be read: %v.", c.Inbox, err), "")
	}
	free := int64(disk.Bavail) * int64(disk.Bsize)
	if free < c.MinFree {
		return check(Warn, fmt.Sprintf("The disk of %s has %s free, and %s have to stay free.", c.Inbox, size(free), size(c.MinFree)),
			"Free some space, or choose another folder with the setting inbox.")
	}
	return check(OK, fmt.Sprintf("Received files go to %s, with %s free.", c.Inbox, size(free)), "")
}

// written is a moment before which no clock can be right.
var written = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// clock looks whether the clock was ever set. Keys, leases and waits do not depend on it, only what people read: the dates of
// received files and of messages. A Raspberry Pi has no clock that runs without power.
func clock(_ context.Context, c Config) []Check {
	if now := c.now(); now.Before(written) {
		return []Check{{"clock", Warn, fmt.Sprintf("The clock says it is %s, which cannot be: nigh works, but received files and messages get odd dates.", now.Format("January 2006")),
			"sudo timedatectl set-time 'YYYY-MM-DD HH:MM', or connect to the internet once."}}
	}
	return []Check{{"clock", OK, "The clock is set.", ""}}
}

// Existing returns path, or the nearest folder above it that exists.
func Existing(path string) string {
	for {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) || !errors.Is(err, fs.ErrNotExist) {
			return path
		}
		path = filepath.Dir(path)
	}
}

// writable asks the kernel instead of trying, as nothing may be changed.
func writable(folder string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, folder, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return fmt.Errorf("%s: %w", folder, err)
	}
	return nil
}

// size prints bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, prefix := float64(n), -1
	for v >= unit && prefix < 4 {
		v /= unit
		prefix++
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[prefix])
}
