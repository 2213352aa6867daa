//go:build radio

package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/lab/radio"
)

// managed is a bed whose first node's radio a real NetworkManager manages (wpa-p2p.md 4.1 and 6.4, behaviour 20), connected to
// an access point, and a device that forms groups with it.
type managed struct {
	system, peer *radio.Node
	other        *station
}

// newManaged makes one, with a NetworkManager of a tree or the guest's own; nil in the process of an agent, which has run.
func newManaged(t *testing.T, tree string) *managed {
	t.Helper()
	if config := os.Getenv(userEnv); config != "" {
		runAgent(t, config)
		return nil
	}
	nodes := radio.NodesOf(t, radio.Config{Nodes: 3, Plain: 1, Radios: 2, System: true})
	b := &managed{system: nodes[0], peer: nodes[1]}
	if out, err := exec.Command("sh", "-c", "groupadd --force --system nigh && id -u "+userName+" || useradd --no-create-home --user-group "+userName).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	install(t, b.system, "../systemd/nigh.dbus.conf", allowPolicy)
	home, err := nodes[2].Serve(t.Context(), radio.AccessPointConfig{SSID: "home", Passphrase: homePassphrase, Address: netip.MustParsePrefix("10.9.0.1/24")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := home.Stop(); err != nil {
			t.Error(err)
		}
	})
	manage(t.Context(), t, b.system, tree)
	b.other = newStation(t, b.peer, Config{Intent: -1, GroupIdle: time.Second})
	return b
}

// manage has NetworkManager, of a tree or the guest's own, manage the first radio of a node, and connect it to the access
// point. The second is not its own.
func manage(ctx context.Context, t *testing.T, node *radio.Node, tree string) {
	t.Helper()
	write(t, "/etc/NetworkManager/conf.d/spare.conf", "[keyfile]\nunmanaged-devices=interface-name:"+node.Radios[1].Ifname+"\n")
	write(t, "/etc/NetworkManager/system-connections/home.nmconnection", fmt.Sprintf(homeConnection, node.Ifname, homePassphrase))
	if err := node.StartNetworkManager(ctx, tree); err != nil {
		t.Fatal(err)
	}
	c, err := dbus.Connect(node.Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	version, err := c.Object(nameNM, "/org/freedesktop/NetworkManager").GetProperty(nameNM + ".Version")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("NetworkManager %v", version)
	if strings.HasPrefix(fmt.Sprint(version.Value()), "1.42.") == (tree != "") {
		t.Fatal("that is not the one that was asked for")
	}
	// On a machine that is too busy for the handshake, NetworkManager takes the passphrase for wrong.
	for try := 1; ; try++ {
		_, err := node.NMCLI(ctx, "connection", "up", "home")
		if err == nil {
			return
		}
		if t.Log(err); try == 4 {
			t.Fatal("the user's own Wi-Fi is not connected")
		}
	}
}

const homePassphrase = "not a secret"

// homeConnection is the user's own Wi-Fi connection: interface and passphrase.
const homeConnection = `[connection]
id=home
type=wifi
interface-name=%s
autoconnect=false
[wifi]
ssid=home
[wifi-security]
key-mgmt=wpa-psk
psk=%s
[ipv4]
method=manual
address1=10.9.0.2/24
[ipv6]
method=disabled
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// childrenOf finds the programs whose bus is in a folder, by name.
func childrenOf(t *testing.T, folder string) map[string][]int {
	t.Helper()
	found := map[string][]int{}
	list, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range list {
		environ, _ := os.ReadFile(path)
		arguments, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		name, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "comm"))
		pid, err := strconv.Atoi(strings.Split(path, "/")[2])
		if err == nil && (strings.Contains(string(environ), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+folder) || strings.Contains(string(arguments), "--config-file="+folder)) {
			found[strings.TrimSpace(string(name))] = append(found[strings.TrimSpace(string(name))], pid)
		}
	}
	return found
}

// install puts a file in force as a policy of the system bus until the end of the test.
func install(t *testing.T, node *radio.Node, source, target string) {
	t.Helper()
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(target, text, 0o644); err != nil {
		t.Fatal(err)
	}
	reloadBus(t, node)
}

func reloadBus(t *testing.T, node *radio.Node) {
	t.Helper()
	c, err := dbus.Connect(node.Bus)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.BusObject().Call("org.freedesktop.DBus.ReloadConfig", 0).Err; err != nil {
		t.Fatal(err)
	}
}

// killed starts a group and sees NetworkManager remove it: it is told within a second of that what happened and what to do,
// and nothing is left of the group.
func killed(t *testing.T, node *radio.Node, a *agent) {
	t.Helper()
	mark := a.order("start")
	gone := a.await(mark, "end of the group", func(s said) bool {
		return s.What == "gone" || s.What == "done" && s.Command == "start" && s.Error != ""
	})
	removed := a.await(mark, "removal", func(s said) bool { return s.What == "removed" })
	t.Logf("group removed %v after the command, told %v later: %+v", removed.At, gone.At-removed.At, gone)
	if gone.What == "gone" && gone.Reason != ReasonKilledByNetworkManager {
		t.Errorf("the group is gone for %q", gone.Reason)
	}
	if gone.What == "done" && !strings.Contains(gone.Error, ErrKilledByNetworkManager.Error()) {
		t.Errorf("error is %q", gone.Error)
	}
	if late := gone.At - removed.At; late > time.Second {
		t.Errorf("told %v after the removal", late)
	}
	if gone.What == "gone" && linkExists(node, gone.Group.Ifname) {
		t.Errorf("the network device %s is left", gone.Group.Ifname)
	}
	noGroupLinks(t, node)
}

// lives forms a group with another device, and sees it live and carry data.
func lives(t *testing.T, node *radio.Node, a *agent, other *station, d time.Duration) {
	t.Helper()
	other.t = t
	if err := other.Listen(t.Context(), 10*time.Minute); err != nil {
		t.Fatal(err)
	}
	mark, theirs := a.order("connect", other.name), other.mark()
	accepted := other.answer(theirs, PBC(), ConnectOptions{Intent: -1})
	if r := other.wait(accepted); r.err != nil {
		t.Fatalf("accept: %v", r.err)
	}
	up := a.await(mark, "group", func(s said) bool { return s.What == "up" })
	a.await(mark, "answer", func(s said) bool { return s.What == "done" && s.Command == "connect" && s.Error == "" })
	t.Logf("the group is up on %s, %d MHz", up.Group.Ifname, up.Group.Frequency)
	// As package link does; the kernel gives the interface no address when NetworkManager made the group.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+up.Group.Ifname+"/disable_ipv6", []byte("0"), 0o644); err != nil {
		t.Error(err)
	}
	if out, err := exec.Command("ip", "address", "add", "fe80::6e69:6768/64", "dev", up.Group.Ifname, "nodad").CombinedOutput(); err != nil {
		t.Errorf("address: %v: %s", err, out)
	}
	end := time.NewTimer(d)
	defer end.Stop()
	<-end.C
	a.mu.Lock()
	for _, s := range a.lines[mark:] {
		if s.What == "gone" {
			t.Errorf("the group is gone: %s", s.Reason)
		}
	}
	a.mu.Unlock()
	there := other.Status().Groups
	if len(there) != 1 {
		t.Fatalf("the other side is in %d groups", len(there))
	}
	var to string
	if err := other.node.Do(func() (err error) { to, err = linkLocal(there[0].Ifname); return err }); err != nil {
		t.Fatal(err)
	}
	// While NetworkManager scans, the radio is away from the group's channel most of the time.
	if out, err := exec.Command("ping", "-c", "3", "-w", "60", to+"%"+up.Group.Ifname).CombinedOutput(); err != nil {
		state, _ := exec.Command("sh", "-c", "ip address; iw dev; nmcli device").CombinedOutput()
		t.Errorf("ping through the group: %v: %s\n%s", err, out, state)
	}
	mark = a.order("leave")
	a.await(mark, "leaving", func(s said) bool { return s.What == "done" && s.Command == "leave" && s.Error == "" })
	other.awaitGone(theirs)
	noGroupLinks(t, node)
}

// responds has the other device ask for a group, which the agent accepts by itself.
func responds(t *testing.T, node *radio.Node, a *agent, other *station) {
	t.Helper()
	mark, theirs := a.order("listen"), other.mark()
	peer := other.findName("alice").Address
	r := other.wait(later(func() (Group, error) { return other.Connect(t.Context(), peer, PBC(), ConnectOptions{Intent: -1}) }))
	if r.err != nil {
		t.Fatalf("connect: %v", r.err)
	}
	a.await(mark, "acceptance", func(s said) bool { return s.What == "done" && s.Command == "accept" && s.Error == "" })
	mark = a.order("leave")
	a.await(mark, "leaving", func(s said) bool { return s.What == "done" && s.Command == "leave" && s.Error == "" })
	other.awaitGone(theirs)
	noGroupLinks(t, node)
}

// linkLocal returns the address that the kernel gave an interface.
func linkLocal(ifname string) (string, error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return "", err
	}
	addresses, err := i.Addrs()
	for _, a := range addresses {
		if p, ok := a.(*net.IPNet); ok && p.IP.IsLinkLocalUnicast() && p.IP.To4() == nil {
			return p.IP.String(), nil
		}
	}
	return "", errors.Join(err, fmt.Errorf("%s has no link-local address", ifname))
}

// noGroupLinks checks that a node has no interface of a group.
func noGroupLinks(t *testing.T, node *radio.Node) {
	t.Helper()
	if list := groupLinks(t, node); len(list) != 0 {
		t.Errorf("left are the interfaces %v", list)
	}
}

// awaitNoGroupLinks is noGroupLinks for what the kernel cleans up after a process that died.
func awaitNoGroupLinks(t *testing.T, node *radio.Node) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(groupLinks(t, node)) != 0 {
		select {
		case <-tick.C:
		case <-deadline.C:
			noGroupLinks(t, node)
			return
		}
	}
}

func groupLinks(t *testing.T, node *radio.Node) []string {
	t.Helper()
	var found []string
	if err := node.Do(func() error {
		list, err := os.ReadDir("/sys/class/net")
		for _, e := range list {
			if strings.HasPrefix(e.Name(), "p2p-") {
				found = append(found, e.Name())
			}
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	return found
}
