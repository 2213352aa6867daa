package lab

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// usableWait bounds how long Join and Cable wait for a link to carry and its addresses to be usable. The kernel needs
// milliseconds; the rest is room for a loaded machine.
const usableWait = 20 * time.Second

// namespaceFolder is where ip-netns(8) keeps the files that name network namespaces.
const namespaceFolder = "/run/netns"

// bedSerial tells the beds of one process apart.
var bedSerial atomic.Int64

// NeedRoot skips the test, with the reason, when this process cannot make network namespaces.
func NeedRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root: network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		tb.Skip("needs the program ip: apt-get install iproute2")
	}
	if err := mayUnshare(); err != nil {
		tb.Skipf("needs network namespaces: %v", err)
	}
}

// mayUnshare tries to make a network namespace, once in the life of the process: a container's root may lack CAP_SYS_ADMIN.
var mayUnshare = sync.OnceValue(func() error {
	done := make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the namespace with the thread.
		runtime.LockOSThread()
		done <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	return <-done
})

// Net is a bed: a set of hosts and bridges that belong to one test. Its methods are for the test's own goroutine.
type Net struct {
	tb     testing.TB
	prefix string
	names  map[string]bool
}

// NewNet makes an empty bed. It skips the test, with the reason, when this process cannot make network namespaces.
// Everything in the bed, with any process still running in it, is removed when the test ends.
func NewNet(tb testing.TB) *Net {
	tb.Helper()
	NeedRoot(tb)
	return &Net{
		tb:     tb,
		prefix: fmt.Sprintf("lab-%d-%d-", os.Getpid(), bedSerial.Add(1)),
		names:  map[string]bool{},
	}
}

// Host makes a host: a namespace with lo up, no other link, and duplicate address detection off.
func (n *Net) Host(name string) *Host {
	n.tb.Helper()
	return n.namespace(name, name)
}

// Bridge makes an Ethernet segment. The bridge has a namespace of its own, so that no host sees more than its own port,
// and floods multicast to all ports.
func (n *Net) Bridge(name string) *Bridge {
	n.tb.Helper()
	h := n.namespace(name, "bridge-"+name)
	h.IP("link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0", "mcast_snooping", "0")
	h.IP("link", "set", "br0", "up")
	return &Bridge{Name: name, host: h, ports: map[string]string{}}
}

func (n *Net) namespace(name, unique string) *Host {
	n.tb.Helper()
	if n.names[unique] {
		n.tb.Fatalf("lab: two hosts named %s", unique)
	}
	n.names[unique] = true
	h := &Host{Name: name, Namespace: n.prefix + unique, net: n}
	h.Path = filepath.Join(namespaceFolder, h.Namespace)
	n.ip("netns", "add", h.Namespace)
	n.tb.Cleanup(h.remove)
	h.Sysctl("net.ipv6.conf.default.accept_dad", "0")
	h.IP("link", "set", "lo", "up")
	return h
}

// Cable joins two hosts by a veth pair with no addresses but the link-local ones, and returns when both ends carry.
func (n *Net) Cable(a *Host, ifa string, b *Host, ifb string) {
	n.tb.Helper()
	n.ip("link", "add", "name", ifa, "netns", a.Namespace, "type", "veth", "peer", "name", ifb, "netns", b.Namespace)
	a.IP("link", "set", ifa, "up")
	b.IP("link", "set", ifb, "up")
	a.awaitUsable(ifa)
	b.awaitUsable(ifb)
}

func (n *Net) ip(args ...string) string {
	n.tb.Helper()
	out, err := run("ip", args...)
	if err != nil {
		n.tb.Fatalf("lab: %v", err)
	}
	return out
}

// run starts a program, and on failure gives back what it said.
func run(name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// Bridge is an Ethernet segment that hosts join.
type Bridge struct {
	Name  string
	host  *Host
	ports map[string]string // names in host by the namespace and link that they lead to
}

// Join gives h a link named ifname on this segment, with addresses such as "10.0.0.1/24" or "fd00::1/64" beside the
// link-local one, and returns when the link carries and every address can be used. A host may join several segments, and
// one segment several times.
func (b *Bridge) Join(h *Host, ifname string, addrs ...string) {
	tb := h.net.tb
	tb.Helper()
	for _, a := range addrs {
		if _, err := netip.ParsePrefix(a); err != nil {
			tb.Fatalf("lab: join %s: %v", b.Name, err)
		}
	}
	port := "port" + strconv.Itoa(len(b.ports)+1)
	b.ports[h.Namespace+"/"+ifname] = port
	h.net.ip("link", "add", "name", ifname, "netns", h.Namespace, "type", "veth", "peer", "name", port, "netns", b.host.Namespace)
	b.host.IP("link", "set", port, "master", "br0", "up")
	for _, a := range addrs {
		h.IP("address", "add", a, "dev", ifname)
	}
	h.IP("link", "set", ifname, "up")
	h.awaitUsable(ifname, addrs...)
}

// Cut makes a link of h silent without taking its carrier, as a switch that broke behind it does.
func (b *Bridge) Cut(h *Host, ifname string) {
	h.net.tb.Helper()
	b.host.IP("link", "set", b.port(h, ifname), "nomaster")
}

// Unplug takes the carrier of a link of h, as pulling its cable does, and returns when h sees it.
func (b *Bridge) Unplug(h *Host, ifname string) {
	h.net.tb.Helper()
	b.host.IP("link", "set", b.port(h, ifname), "down")
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(usableWait)
	defer deadline.Stop()
	for {
		if link := h.IP("-oneline", "link", "show", "dev", ifname); strings.Contains(link, "state DOWN") || strings.Contains(link, "state LOWERLAYERDOWN") {
			return
		}
		select {
		case <-deadline.C:
			h.net.tb.Fatalf("lab: %s of %s keeps its carrier", ifname, h.Name)
		case <-tick.C:
		}
	}
}

// Mend undoes Cut and Unplug.
func (b *Bridge) Mend(h *Host, ifname string) {
	h.net.tb.Helper()
	b.host.IP("link", "set", b.port(h, ifname), "master", "br0", "up")
}

func (b *Bridge) port(h *Host, ifname string) string {
	h.net.tb.Helper()
	port, ok := b.ports[h.Namespace+"/"+ifname]
	if !ok {
		h.net.tb.Fatalf("lab: %s of %s is not on %s", ifname, h.Name, b.Name)
	}
	return port
}

// Host is a machine of the bed. All its methods but Do and Command are for the test's own goroutine.
type Host struct {
	Name      string // as given
	Namespace string // name for ip-netns(8)
	Path      string // file that names the namespace: /run/netns/...
	net       *Net
}

// IP runs ip(8) in the host's namespace and returns its standard output. The test fails when ip does.
func (h *Host) IP(args ...string) string {
	h.net.tb.Helper()
	return h.net.ip(append([]string{"-n", h.Namespace}, args...)...)
}

// Sysctl writes a network setting of the host, such as net.ipv6.conf.eth0.accept_ra.
func (h *Host) Sysctl(key, value string) {
	h.net.tb.Helper()
	// The settings a process sees under /proc/sys/net are those of the thread that opens the file.
	err := h.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/")), []byte(value), 0)
	})
	if err != nil {
		h.net.tb.Fatalf("lab: sysctl on %s: %v", h.Name, err)
	}
}

// Command is [exec.CommandContext] in the host's namespace, with the namespace's own /sys. The process identifier is that of
// the program itself: ip-netns(8) replaces itself with it. A program still running when the test ends is killed.
func (h *Host) Command(ctx context.Context, name string, arg ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.Namespace, name}, arg...)...)
}

// Run runs a program in the host's namespace and returns its standard output. The test fails when the program does.
func (h *Host) Run(name string, arg ...string) string {
	h.net.tb.Helper()
	return h.net.ip(append([]string{"netns", "exec", h.Namespace, name}, arg...)...)
}

// Do runs fn as [Inside] does, in the host's namespace.
func (h *Host) Do(fn func() error) error { return Inside(h.Path, fn) }

// awaitUsable returns when ifname carries, has a link-local address, and none of its addresses, nor of addrs, is tentative.
func (h *Host) awaitUsable(ifname string, addrs ...string) {
	h.net.tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.NewTimer(usableWait)
	defer deadline.Stop()
	for {
		missing := h.missing(ifname, addrs)
		if missing == "" {
			return
		}
		select {
		case <-deadline.C:
			h.net.tb.Fatalf("lab: %s of %s is not usable after %v: %s", ifname, h.Name, usableWait, missing)
		case <-tick.C:
		}
	}
}

// missing says what a link still lacks, or nothing.
func (h *Host) missing(ifname string, addrs []string) string {
	h.net.tb.Helper()
	lines := strings.Split(h.IP("-oneline", "address", "show", "dev", ifname), "\n")
	linkLocal := false
	for _, line := range lines {
		if strings.Contains(line, " tentative") {
			return "tentative address: " + line
		}
		linkLocal = linkLocal || strings.Contains(line, " fe80::")
	}
	if !linkLocal && h.ipv6(ifname) {
		return "no link-local address"
	}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a).String()
		if !strings.Contains(strings.Join(lines, "\n"), " "+p+" ") {
			return "no address " + p
		}
	}
	if link := h.IP("-oneline", "link", "show", "dev", ifname); !strings.Contains(link, "LOWER_UP") {
		return "no carrier"
	}
	return ""
}

// ipv6 tells whether the link makes link-local addresses by itself.
func (h *Host) ipv6(ifname string) bool {
	on := true
	err := h.Do(func() error {
		folder := filepath.Join("/proc/sys/net/ipv6/conf", ifname)
		disabled, err := os.ReadFile(filepath.Join(folder, "disable_ipv6"))
		if err != nil {
			return err
		}
		mode, err := os.ReadFile(filepath.Join(folder, "addr_gen_mode"))
		if err != nil {
			return err
		}
		on = strings.TrimSpace(string(disabled)) == "0" && strings.TrimSpace(string(mode)) == "0"
		return nil
	})
	return err == nil && on
}

// remove kills what still runs in the host's namespace and deletes it.
func (h *Host) remove() {
	pids, err := run("ip", "netns", "pids", h.Namespace)
	if err != nil {
		h.net.tb.Errorf("lab: %v", err)
	}
	for _, field := range strings.Fields(pids) {
		if pid, err := strconv.Atoi(field); err == nil && pid != os.Getpid() {
			// Gone already is as good as killed.
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if _, err := run("ip", "netns", "del", h.Namespace); err != nil {
		h.net.tb.Errorf("lab: %v", err)
	}
}
