package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"nigh/lab"
)

// command runs a program of nigh on the machine, after the script.
func (m *machine) command(ctx context.Context, name string, arg ...string) *exec.Cmd {
	// ip-netns(8) gives each program a mount namespace of its own: what the script mounts is gone with it.
	// The ufw of this computer is none of the machine's.
	args := append([]string{"-c", "set -e\n{\n[ ! -d /etc/ufw ] || mount -t tmpfs tmpfs /etc/ufw\n" + m.script + "} >&2\nexec \"$0\" \"$@\"", name}, arg...)
	cmd := m.host.Command(ctx, "sh", args...)
	cmd.Env = append(os.Environ(), "NIGH_WPA_BUS="+m.bus)
	return cmd
}

// asNobody runs nigh as a user without rights but those given, as capabilities(7) are named by setpriv(1).
func (m *machine) asNobody(caps string, arg ...string) (string, int) {
	m.t.Helper()
	home, err := os.MkdirTemp(m.dir, "home")
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		m.t.Fatal(err)
	}
	program := filepath.Join(home, "nigh") // the built one lies where only root gets to
	text, err := os.ReadFile(m.agent.Binary)
	if err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		m.t.Fatal(err)
	}
	user := strconv.Itoa(nobody)
	args := append([]string{"--reuid", user, "--regid", user, "--clear-groups", "--inh-caps", caps, "--ambient-caps", caps, program}, arg...)
	cmd := m.command(within(m.t, time.Minute), "setpriv", args...)
	cmd.Env = append(cmd.Env, "HOME="+home, "NIGH_SOCKET="+m.agent.Socket, "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		m.t.Fatalf("%v: %s", err, errs.String())
	}
	if len(out) == 0 {
		m.t.Fatalf("nothing said: %v: %s", err, errs.String())
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// run starts a program on the machine that lives as long as the test.
func (m *machine) run(ready func() bool, name string, arg ...string) {
	m.t.Helper()
	cmd := m.host.Command(m.t.Context(), name, arg...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+m.bus)
	cmd.Stdout, cmd.Stderr = m.t.Output(), m.t.Output()
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ctx := within(m.t, 30*time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			m.t.Fatalf("%s does not get ready", name)
		case <-tick.C:
		}
	}
}

// startBus runs a real bus with no policy but the one given.
func (m *machine) startBus(policy string) {
	m.t.Helper()
	socket := filepath.Join(m.dir, "bus")
	m.bus = "unix:path=" + socket
	config := filepath.Join(m.dir, "bus.conf")
	text := `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>` + m.bus + `</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
<allow send_requested_reply="true"/><allow receive_type="method_call"/><allow receive_type="signal"/><allow receive_requested_reply="true"/></policy>
` + policy + `</busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	m.run(func() bool { return m.connect() != nil }, "dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile")
}

// connect is nil while nobody answers at the bus. The connection ends with the test.
func (m *machine) connect() *dbus.Conn {
	conn, err := dbus.Connect(m.bus)
	if err != nil {
		return nil
	}
	m.t.Cleanup(func() { conn.Close() })
	return conn
}

func (m *machine) startSupplicant() {
	m.t.Helper()
	conn := m.connect()
	m.run(func() bool {
		var on bool
		err := conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, "fi.w1.wpa_supplicant1").Store(&on)
		return err == nil && on
	}, "wpa_supplicant", "-u")
}

// load gives the machine rules of nftables.
func (m *machine) load(rules string) {
	m.t.Helper()
	m.loadOn(m.host, rules)
}

// loadOn gives another host rules.
func (m *machine) loadOn(h *lab.Host, rules string) {
	m.t.Helper()
	cmd := h.Command(m.t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("nft: %v: %s", err, out)
	}
}

// meet has a trusted device, bob, come near, and then walls it off.
func (m *machine) meet(wall func(m *machine, other *lab.Host)) {
	m.t.Helper()
	other := m.net.Host("bob")
	m.lan.Join(other, "eth0", "10.0.0.2/24")
	bob := start(m.t, other, "bob")
	befriend(m.t, m.agent, bob)
	if err := m.agent.Await(within(m.t, time.Minute), hasPeer("bob", "ready")); err != nil {
		m.t.Fatal(err)
	}
	wall(m, other)
}

// copyEtc gives programs a copy of a folder below /etc, so that nothing of this computer is changed.
func (m *machine) copyEtc(name string) {
	m.t.Helper()
	there := filepath.Join(m.dir, "etc-"+name)
	if out, err := exec.Command("cp", "-a", "/etc/"+name, there).CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	m.script += "mount --bind " + there + " /etc/" + name + "\n"
}

// enter runs a line of shell in the mount namespace of the agent.
func (m *machine) enter(format string, arg ...any) {
	m.t.Helper()
	line := fmt.Sprintf(format, arg...)
	if out, err := exec.Command("nsenter", "-t", strconv.Itoa(m.agent.PID()), "-m", "sh", "-c", line).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v: %s", line, err, out)
	}
}

// hold takes a UDP port on all links and shares it with nobody, until the test ends.
func (m *machine) hold(port int) {
	m.t.Helper()
	err := m.host.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		m.t.Cleanup(func() { _ = unix.Close(fd) })
		return unix.Bind(fd, &unix.SockaddrInet4{Port: port})
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// firewalld answers as firewalld 1.3 does with its usual zone: the messages alone, its rules are no part of this.
type firewalld struct{}

func (firewalld) GetDefaultZone() (string, *dbus.Error)           { return "public", nil }
func (firewalld) GetZoneOfInterface(string) (string, *dbus.Error) { return "", nil }
func (firewalld) GetServices(string) ([]string, *dbus.Error) {
	return []string{"ssh", "dhcpv6-client"}, nil
}
func (firewalld) GetPorts(string) ([][]string, *dbus.Error) { return nil, nil }

func (m *machine) serveFirewalld() {
	m.t.Helper()
	const name, path = "org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1"
	conn := m.connect()
	err := errors.Join(
		conn.ExportWithMap(firewalld{}, map[string]string{"GetDefaultZone": "getDefaultZone"}, path, name),
		conn.ExportWithMap(firewalld{}, map[string]string{"GetZoneOfInterface": "getZoneOfInterface", "GetServices": "getServices", "GetPorts": "getPorts"}, path, name+".zone"))
	if err != nil {
		m.t.Fatal(err)
	}
	if reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		m.t.Fatalf("%v, %v", reply, err)
	}
}
