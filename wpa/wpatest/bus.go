package wpatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// AllowAll is the policy of a bus where everybody may do everything.
const AllowAll = `<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true"/><allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_requested_reply="true"/></policy>`

// Bus is a real dbus-daemon of a test's own.
type Bus struct {
	Address string
	kill    func()
}

// StartBus runs a dbus-daemon with a policy on a temporary address until the test ends or Kill is called. It fails the test
// when there is no dbus-daemon (Debian's package dbus).
func StartBus(tb testing.TB, policy string) *Bus {
	tb.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		tb.Fatal("needs dbus-daemon: install the package dbus")
	}
	dir, err := os.MkdirTemp("", "nigh-bus") // t.TempDir may be too long for a socket
	if err != nil {
		tb.Fatal(err)
	}
	b := &Bus{Address: "unix:path=" + filepath.Join(dir, "bus")}
	config := filepath.Join(dir, "conf")
	text := fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>%s</listen><auth>EXTERNAL</auth>%s</busconfig>`, b.Address, policy)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	ready, child, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile", "--print-address=3")
	cmd.ExtraFiles = []*os.File{child}
	cmd.Stderr = tb.Output()
	err = cmd.Start()
	child.Close()
	if err != nil {
		tb.Fatal(err)
	}
	b.kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()
		_ = os.RemoveAll(dir) // at worst an empty folder too many in /tmp
	})
	tb.Cleanup(b.kill)
	if n, err := ready.Read(make([]byte, 256)); n == 0 || err != nil {
		tb.Fatalf("dbus-daemon did not start: %v", err)
	}
	return b
}

// Kill ends the bus, and with it all connections. A second time it does nothing.
func (b *Bus) Kill() { b.kill() }
