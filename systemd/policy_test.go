package systemd

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

const (
	nobody = 65534
	games  = 60 // a group every Debian has; the group nigh exists only where nigh is installed
)

// busConfig is a system bus in small: like Debian's, it denies method calls that no policy allows.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=SOCKET</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <includedir>FOLDER</includedir>
</busconfig>
`

// bus starts a real dbus-daemon with the named policy files and a real wpa_supplicant on it, and returns its address.
func bus(t *testing.T, policies map[string]string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: calls as another user")
	}
	daemon := program(t, "dbus-daemon", "dbus")
	program(t, "dbus-send", "dbus-bin")
	supplicant, err := exec.LookPath("/sbin/wpa_supplicant")
	if err != nil {
		t.Skip("needs the program wpa_supplicant: apt-get install wpasupplicant")
	}
	// Other users have to reach the socket, so not t.TempDir.
	folder, err := os.MkdirTemp("", "nigh-policy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "bus")
	for name, text := range policies {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(folder, "bus.xml")
	text := strings.NewReplacer("SOCKET", socket, "FOLDER", folder).Replace(busConfig)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	address := "unix:path=" + socket
	started(t, exec.Command(daemon, "--nofork", "--nopidfile", "--nosyslog", "--print-address=1", "--config-file="+config), "unix:path=")
	wpa := exec.Command(supplicant, "-u", "-O", filepath.Join(folder, "ctrl"), "-t")
	wpa.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address)
	started(t, wpa, "Successfully initialized wpa_supplicant")
	return address
}

// started runs cmd until the test ends, and returns when it has printed a line with text.
func started(t *testing.T, cmd *exec.Cmd, text string) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	seen := make(chan bool, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				seen <- true
				break
			}
		}
		for lines.Scan() {
		}
		select {
		case seen <- false:
		default:
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-drained
		_ = cmd.Wait()
	})
	if !<-seen {
		t.Fatalf("%s ended: %s", cmd.Path, stderr.String())
	}
}

// call makes one method call as user nobody with one supplementary group and returns what dbus-send said.
func call(address string, group uint32, path, member string, args ...string) string {
	cmd := exec.Command("dbus-send", append([]string{"--bus=" + address, "--print-reply", "--reply-timeout=10000",
		"--dest=fi.w1.wpa_supplicant1", path, member}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{group}}}
	out, _ := cmd.CombinedOutput() // an error reply is a result, too
	return string(out)
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The agent's process has the group only as a supplementary one, of which the user database knows nothing: dbus-daemon
// has to take it from the socket. Upstream's own policy allows root alone.
func TestPolicyAllowsP2PAndNothingElse(t *testing.T) {
	upstream := `<busconfig>
	<policy user="root"><allow own="fi.w1.wpa_supplicant1"/><allow send_destination="fi.w1.wpa_supplicant1"/></policy>
	<policy context="default"><deny own="fi.w1.wpa_supplicant1"/><deny send_destination="fi.w1.wpa_supplicant1"/>
	<deny receive_sender="fi.w1.wpa_supplicant1" receive_type="signal"/></policy></busconfig>`
	ours := strings.Replace(read(t, "nigh.dbus.conf"), `group="nigh"`, `group="games"`, 1)
	address := bus(t, map[string]string{"wpa_supplicant.conf": upstream, "nigh.conf": ours})

	const (
		w     = "fi.w1.wpa_supplicant1"
		root  = "/fi/w1/wpa_supplicant1"
		iface = root + "/Interfaces/0"
		group = iface + "/Groups/xx"
		peer  = iface + "/Peers/020000000100"
	)
	for _, tt := range []struct {
		path, member string
		args         []string
		allowed      bool
	}{
		{root, w + ".GetInterface", []string{"string:wlan0"}, true},
		{root, "org.freedesktop.DBus.Properties.GetAll", []string{"string:" + w}, true},
		{iface, w + ".Interface.AbortScan", nil, true},
		{iface, w + ".Interface.P2PDevice.Find", nil, true},
		{iface, w + ".Interface.P2PDevice.Disconnect", nil, true},
		{iface, w + ".Interface.P2PDevice.AddPersistentGroup", nil, true},
		{iface, w + ".Interface.WPS.Cancel", nil, true},
		{group, "org.freedesktop.DBus.Properties.GetAll", []string{"string:" + w + ".Group"}, true},
		{peer, "org.freedesktop.DBus.Properties.GetAll", []string{"string:" + w + ".Peer"}, true},
		{root, w + ".CreateInterface", nil, false},
		{root, w + ".RemoveInterface", []string{"objpath:" + iface}, false},
		{root, w + ".ExpectDisconnect", nil, false},
		{iface, w + ".Interface.Disconnect", nil, false},
		{iface, w + ".Interface.AddNetwork", nil, false},
		{iface, w + ".Interface.SelectNetwork", []string{"objpath:" + iface + "/Networks/0"}, false},
		{iface, w + ".Interface.AddBlob", []string{"string:x", "array:byte:1"}, false},
		{iface, w + ".Interface.Scan", nil, false},
	} {
		const denied = "org.freedesktop.DBus.Error.AccessDenied"
		out := call(address, games, tt.path, tt.member, tt.args...)
		answered := strings.HasPrefix(out, "method return") || strings.HasPrefix(out, "Error ")
		if !answered || strings.Contains(out, denied) == tt.allowed {
			t.Errorf("%s with the group: want allowed %v, got: %s", tt.member, tt.allowed, out)
		}
		if out := call(address, nobody, tt.path, tt.member, tt.args...); !strings.Contains(out, denied) {
			t.Errorf("%s without the group: want denied, got: %s", tt.member, out)
		}
	}
}

// The opt-in file keeps root, which NetworkManager is, from the one signal, and nothing else from anybody.
func TestOptInPolicyLoads(t *testing.T) {
	open := `<busconfig><policy user="root"><allow own="fi.w1.wpa_supplicant1"/></policy>
	<policy context="default"><allow send_destination="fi.w1.wpa_supplicant1"/></policy></busconfig>`
	address := bus(t, map[string]string{"open.conf": open, "zz-nigh.conf": read(t, "zz-nigh.dbus.conf")})
	out := call(address, games, "/fi/w1/wpa_supplicant1", "fi.w1.wpa_supplicant1.GetInterface", "string:wlan0")
	if !strings.Contains(out, "fi.w1.wpa_supplicant1.InterfaceUnknown") {
		t.Errorf("GetInterface: %s", out)
	}
}

// The script that gives radios to wpa_supplicant leaves alone what somebody uses, and says what became of the rest. That it
// succeeds with a real radio is shown in the lab.
func TestWifiScript(t *testing.T) {
	program(t, "busctl", "systemd")
	open := `<busconfig><policy user="root"><allow own="fi.w1.wpa_supplicant1"/></policy>
	<policy context="default"><allow send_destination="fi.w1.wpa_supplicant1"/></policy></busconfig>`
	address := bus(t, map[string]string{"open.conf": open})
	sys, mine := t.TempDir(), t.TempDir()
	for name, flags := range map[string]string{"nighw0": "0x1003", "nighw1": "0x1002", "nighw2": "0x1003", "p2p-nighw0-0": "0x1002"} {
		if err := os.MkdirAll(filepath.Join(sys, name, "phy80211"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(sys, name, "flags"), []byte(flags+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Up because of us, before wpa_supplicant was started again.
	if err := os.WriteFile(filepath.Join(mine, "nighw2"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("./nigh-wifi")
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+address, "NIGH_SYS="+sys, "RUNTIME_DIRECTORY="+mine)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"nighw0 is in use: left alone\n",
		"nighw1: wpa_supplicant does not take it\n", // there is no such interface
		"nighw2: wpa_supplicant does not take it\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "p2p-") {
		t.Errorf("a group's interface was touched:\n%s", out)
	}
}
