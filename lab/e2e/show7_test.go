package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// nobody is a user without rights.
const nobody = 65534

// machine is a host of its own with a bus, a wpa_supplicant and an agent, all real, for `nigh doctor` to look at.
type machine struct {
	t      *testing.T
	net    *lab.Net
	host   *lab.Host
	lan    *lab.Bridge
	dir    string // of the agent; files and mounts of the machine lie below it, too
	bus    string // address
	script string // what the shell does before each program of nigh, in a mount namespace of its own
	agent  *node.Agent
}

// brokenSetup is one way to break a machine, and what doctor has to make of it.
type brokenSetup struct {
	name string

	noLink, noBus, noSupplicant, noAgent bool

	peer   func(m *machine, other *lab.Host) // a trusted device is near; what is wrong with its host
	policy string                            // further rules of the bus

	before func(m *machine)               // breaks what has to be broken before the agent starts
	after  func(m *machine)               // breaks what the agent would not start with
	ask    func(m *machine) (string, int) // asks doctor in another way
	want   map[string]control.Check       // by id: the state, and parts of cause and fix
	code   int
}

// TestShow7BrokenSetups breaks a machine in one way at a time. The right check says so, with the right remedy, and no other
// check says more than on the same machine when nothing is broken.
func TestShow7BrokenSetups(t *testing.T) {
	lab.NeedRoot(t)
	for _, program := range []string{"dbus-daemon", "wpa_supplicant", "nft", "ufw", "setpriv"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs the program %s (make test installs it)", program)
		}
	}
	healthy := map[string]string{}
	t.Run("healthy", func(t *testing.T) {
		checks, code := diagnose(t, brokenSetup{})
		healthy = notOK(checks)
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		// A network namespace has no radios, whatever the machine around it has.
		for id := range healthy {
			if id != "wifi-hw" {
				t.Errorf("on a healthy machine: %s", healthy[id])
			}
		}
	})
	if t.Failed() {
		return
	}
	for _, b := range brokenSetups {
		t.Run(b.name, func(t *testing.T) {
			checks, code := diagnose(t, b)
			if code != b.code {
				t.Errorf("exit %d, want %d", code, b.code)
			}
			for id, want := range b.want {
				i := slices.IndexFunc(checks, func(c control.Check) bool { return c.ID == id })
				if i < 0 {
					t.Errorf("no check %s", id)
					continue
				}
				if c := checks[i]; c.State != want.State || !strings.Contains(c.Cause, want.Cause) || !strings.Contains(c.Fix, want.Fix) {
					t.Errorf("%+v\nwant %+v", c, want)
				}
			}
			found := notOK(checks)
			for id, c := range found {
				if _, expected := b.want[id]; !expected && healthy[id] == "" {
					t.Errorf("this is not what is broken: %s", c)
				}
			}
			for id := range healthy {
				if _, there := found[id]; !there {
					t.Errorf("%s is well all at once", id)
				}
			}
		})
	}
}

var brokenSetups = []brokenSetup{
	{
		name: "no link at all", noLink: true, code: 1,
		want: map[string]control.Check{
			"usable": {State: "fail", Cause: "No network link can be used.", Fix: "Plug in"},
			"links":  {State: "warn", Cause: "no network card", Fix: "Add a network"},
		},
	},
	{
		name: "cable that is plugged in at one end", noLink: true, code: 1,
		before: func(m *machine) {
			m.host.IP("link", "add", "eth0", "type", "veth", "peer", "name", "far0")
			m.host.IP("link", "set", "eth0", "up")
		},
		want: map[string]control.Check{
			"usable": {State: "fail", Cause: "No network link can be used.", Fix: "Plug in"},
			"links":  {State: "warn", Cause: "eth0: no carrier", Fix: "Plug in a cable"},
		},
	},
	{
		name: "rules that drop",
		before: func(m *machine) {
			m.load("table inet filter { chain input { type filter hook input priority 0; policy drop;\n ct state established,related accept\n iif lo accept\n udp dport 5353 accept\n tcp dport 22 accept\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {
			State: "warn", Cause: "nftables (table inet filter, chain input) keeps other devices from connecting to this one on eth0",
			Fix: "sudo nft 'insert rule inet filter input meta l4proto { tcp, udp } th dport { ",
		}},
	},
	{
		name: "rules that reject",
		before: func(m *machine) {
			m.load("table inet wall { chain in { type filter hook input priority 0;\n ct state established,related accept\n iif lo accept\n meta l4proto tcp reject with icmpx admin-prohibited\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {State: "warn", Cause: "nftables (table inet wall, chain in) keeps", Fix: "insert rule inet wall in"}},
	},
	{
		name: "rules that hide devices",
		before: func(m *machine) {
			m.load("table inet filter { chain input { type filter hook input priority 0;\n udp dport 5353 drop\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {State: "warn", Cause: "keeps discovery (UDP port 5353) out on eth0", Fix: "insert rule inet filter input"}},
	},
	{
		name: "rules that drop and a device that met them",
		peer: func(m *machine, _ *lab.Host) {
			m.load("table inet filter { chain input { type filter hook input priority 0;\n ct state established,related accept\n iif lo accept\n tcp dport 7421 drop\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {
			State: "warn", Cause: "bob got no answer from this device on eth0: nftables (table inet filter, chain input) keeps it out.", Fix: "sudo nft 'insert rule inet filter input",
		}},
	},
	{
		name: "rules that reject and a device that met them",
		peer: func(m *machine, _ *lab.Host) {
			m.load("table inet filter { chain input { type filter hook input priority 0;\n ct state established,related accept\n iif lo accept\n tcp dport 7421 reject with icmpx admin-prohibited\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {State: "warn", Cause: "bob was turned away from this device on eth0: nftables", Fix: "sudo nft 'insert rule inet filter input"}},
	},
	{
		name: "network that keeps its devices apart",
		peer: func(m *machine, other *lab.Host) {
			m.loadOn(other, "table inet filter { chain output { type filter hook output priority 0;\n ct state new tcp dport 7421 drop\n }\n}\n")
		},
		want: map[string]control.Check{"firewall": {State: "warn", Cause: "bob got no answer from this device on eth0, and no firewall is seen here", Fix: "Use another network"}},
	},
	{
		name: "ufw",
		before: func(m *machine) {
			m.copyEtc("ufw")
			m.script += "ufw --force reset && ufw --force enable\n"
		},
		want: map[string]control.Check{"firewall": {State: "warn", Cause: "ufw keeps other devices from connecting to this one on eth0", Fix: "sudo ufw allow "}},
	},
	{
		name:   "firewalld",
		before: func(m *machine) { m.serveFirewalld() },
		want:   map[string]control.Check{"firewall": {State: "warn", Cause: "firewalld (zone public) keeps", Fix: "sudo firewall-cmd --permanent --zone=public --add-"}},
	},
	{
		name:   "another program has the mDNS port for itself",
		before: func(m *machine) { m.hold(5353) },
		want:   map[string]control.Check{"mdns": {State: "warn", Cause: fmt.Sprintf("(process %d) holds the mDNS port 5353 for itself", os.Getpid()), Fix: "ss -ulpn"}},
	},
	{
		name:   "another program serves DHCP on every link",
		before: func(m *machine) { m.hold(67) },
		want:   map[string]control.Check{"foreign-dhcp": {State: "warn", Cause: "holds the DHCP port 67 on every link", Fix: "--fix dnsmasq"}},
	},
	{
		name:   "two links in one subnet",
		before: func(m *machine) { m.net.Bridge("other").Join(m.host, "eth1", "10.0.0.77/24") },
		want:   map[string]control.Check{"subnet": {State: "warn", Cause: "eth0 and eth1 are both in 10.0.0.0/24", Fix: "Disconnect one"}},
	},
	{
		name: "routes that take every subnet for groups",
		before: func(m *machine) {
			m.host.IP("route", "add", "192.168.0.0/16", "via", "10.0.0.9")
			m.host.IP("route", "add", "10.64.0.0/10", "via", "10.0.0.9")
		},
		want: map[string]control.Check{"subnet": {State: "warn", Cause: "All subnets", Fix: "Free one of 192.168.49.0/24"}},
	},
	{
		name:   "IPv6 turned off",
		before: func(m *machine) { m.host.Sysctl("net.ipv6.conf.all.disable_ipv6", "1") },
		want:   map[string]control.Check{"ipv6-off": {State: "warn", Cause: "IPv6 is turned off", Fix: "net.ipv6.conf.all.disable_ipv6=0"}},
	},
	{
		name: "inbox on a full disk",
		before: func(m *machine) {
			inbox := filepath.Join(m.dir, "inbox")
			m.script += "mkdir -p " + inbox + " && mount -t tmpfs -o size=1m tmpfs " + inbox + " && head -c 1020k /dev/zero > " + inbox + "/fill\n"
		},
		want: map[string]control.Check{"inbox": {State: "warn", Cause: "have to stay free", Fix: "Free some space"}},
	},
	{
		name:  "state folder that cannot be written",
		after: func(m *machine) { m.enter("mount --bind %[1]s %[1]s && mount -o remount,bind,ro %[1]s", m.agent.State) },
		want:  map[string]control.Check{"state": {State: "fail", Cause: "read-only file system", Fix: "Make it writable"}},
		code:  1,
	},
	{
		name: "socket of another user",
		ask: func(m *machine) (string, int) {
			return m.asNobody("+net_admin,+net_raw,+net_bind_service", "doctor", "--json")
		},
		want: map[string]control.Check{"socket": {State: "warn", Cause: "User 65534 may not use the agent's socket", Fix: "start an agent of your own"}},
	},
	{
		name: "agent without rights", noAgent: true,
		ask: func(m *machine) (string, int) {
			out, code := m.asNobody("-all", "doctor", "--json")
			return out, code
		},
		want: map[string]control.Check{
			"agent": {State: "warn", Cause: "No agent runs"},
			"caps":  {State: "warn", Cause: "CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE", Fix: "sudo systemctl enable --now nigh@"},
		},
	},
	{
		name: "no agent", noAgent: true,
		want: map[string]control.Check{"agent": {State: "warn", Cause: "No agent runs", Fix: "nigh agent"}},
	},
	{
		name: "no system bus", noBus: true,
		want: map[string]control.Check{"bus": {State: "warn", Cause: "No D-Bus system bus", Fix: "systemctl start dbus"}},
	},
	{
		name: "no wpa_supplicant", noSupplicant: true,
		want: map[string]control.Check{"supplicant": {State: "warn", Cause: "wpa_supplicant", Fix: "apt install wpasupplicant"}},
	},
	{
		name:   "bus that does not let nigh speak to wpa_supplicant",
		policy: `<policy context="mandatory"><deny send_destination="fi.w1.wpa_supplicant1"/></policy>`,
		want:   map[string]control.Check{"dbus-policy": {State: "warn", Fix: "sudo nigh doctor --fix dbus-policy"}},
	},
}

// diagnose makes a machine, breaks it, and asks doctor about it.
func diagnose(t *testing.T, b brokenSetup) ([]control.Check, int) {
	t.Helper()
	m := &machine{t: t, net: lab.NewNet(t), dir: t.TempDir()}
	// Another user has to get to the sockets below.
	for dir := m.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.host = m.net.Host("ada")
	m.lan = m.net.Bridge("lan")
	if !b.noLink {
		m.lan.Join(m.host, "eth0", "10.0.0.1/24")
	}
	if b.noBus {
		m.bus = "unix:path=" + filepath.Join(m.dir, "no-bus")
	} else {
		m.startBus(b.policy)
		if !b.noSupplicant {
			m.startSupplicant()
		}
	}
	if b.before != nil {
		b.before(m)
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cfg := node.Config{Binary: bin, Dir: m.dir, Name: "ada", Command: m.command, Args: []string{"--no-direct"}}
	if b.noAgent {
		m.agent = &node.Agent{Config: cfg, Socket: filepath.Join(m.dir, "run/agent.sock")}
	} else {
		if m.agent, err = node.Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.agent.Kill() })
	}
	if b.after != nil {
		b.after(m)
	}
	if b.peer != nil {
		m.meet(b.peer)
	}
	var out, errs string
	var code int
	if b.ask != nil {
		out, code = b.ask(m)
	} else {
		out, errs, code = m.agent.Run(within(t, time.Minute), "doctor", "--json")
	}
	var checks []control.Check
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&checks); err != nil {
		t.Fatalf("doctor: exit %d: %v\n%s%s", code, err, out, errs)
	}
	for _, c := range checks {
		if c.State != "ok" {
			t.Logf("%-4s %s: %s\n     fix: %s", c.State, c.ID, c.Cause, c.Fix)
			if c.Fix == "" || c.Cause == "" {
				t.Errorf("no way out: %+v", c)
			}
		}
	}
	return checks, code
}

func notOK(checks []control.Check) map[string]string {
	out := map[string]string{}
	for _, c := range checks {
		if c.State != "ok" {
			out[c.ID] = fmt.Sprintf("%s %s: %s", c.State, c.ID, c.Cause)
		}
	}
	return out
}
