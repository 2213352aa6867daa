package discovery

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/lab"
)

// avahi is a real avahi-daemon in a host's namespace, on a D-Bus of its own.
type avahi struct {
	t    *testing.T
	host *lab.Host
	bus  string
}

// startAvahi returns when the daemon answers.
func startAvahi(t *testing.T, h *lab.Host) *avahi {
	t.Helper()
	for program, pkg := range map[string]string{"avahi-daemon": "avahi-daemon", "avahi-browse": "avahi-utils", "dbus-daemon": "dbus-daemon", "stdbuf": "coreutils"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: apt-get install %s", program, pkg)
		}
	}
	// A socket's path is short, so not t.TempDir.
	dir, err := os.MkdirTemp("", "nigh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	a := &avahi{t: t, host: h, bus: "unix:path=" + filepath.Join(dir, "bus")}
	busConf := filepath.Join(dir, "bus.conf")
	conf := filepath.Join(dir, "avahi.conf")
	for path, text := range map[string]string{
		busConf: `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>` + a.bus + `</listen><policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
		conf: "[server]\nhost-name=avahi-" + h.Name + "\nratelimit-burst=1000\nuse-ipv4=yes\nuse-ipv6=yes\n[publish]\npublish-workstation=no\npublish-hinfo=no\n[wide-area]\nenable-wide-area=no\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("/run/avahi-daemon", 0o755); err != nil {
		t.Fatal(err)
	}
	a.background("dbus-daemon", "--nofork", "--config-file="+busConf, "--print-address").line()
	// ip-netns gives the process a mount namespace of its own, so several daemons can have this folder.
	daemon := a.background("sh", "-c", "mount -t tmpfs tmpfs /run/avahi-daemon && exec avahi-daemon -f "+conf+" --no-drop-root --no-chroot --no-rlimits 2>&1")
	daemon.await("the daemon's start", func(line string) bool { return strings.Contains(line, "Server startup complete") })
	go daemon.drain()
	return a
}

// lines is the output of a program that runs until the test ends.
type lines struct {
	t    *testing.T
	what string
	out  chan string
	seen []string
}

// background starts a program beside the daemon. It ends with the test, and its end is awaited.
func (a *avahi) background(name string, arg ...string) *lines {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := a.host.Command(ctx, name, arg...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+a.bus, "LC_ALL=C.UTF-8")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		a.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	l := &lines{t: a.t, what: name, out: make(chan string, 1024)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			l.out <- scan.Text()
		}
		close(l.out)
		_ = cmd.Wait()
	}()
	a.t.Cleanup(func() {
		cancel()
		go l.drain()
		<-ended
	})
	return l
}

func (l *lines) drain() {
	for range l.out {
	}
}

func (l *lines) line() string {
	l.t.Helper()
	return l.await("a line", func(string) bool { return true })
}

// await returns the first line that ok accepts.
func (l *lines) await(what string, ok func(string) bool) string {
	l.t.Helper()
	deadline := time.After(late)
	for {
		select {
		case s, open := <-l.out:
			if !open {
				l.t.Fatalf("%s ended while waiting for %s; it said %q", l.what, what, l.seen)
			}
			l.seen = append(l.seen, s)
			if ok(s) {
				return s
			}
		case <-deadline:
			l.t.Fatalf("%s: not in %v: %s; it said %q", l.what, late, what, l.seen)
		}
	}
}

// browse starts avahi-browse with parsable output, without its own services' ordinary names.
func (a *avahi) browse() *lines {
	return a.background("stdbuf", "-oL", "avahi-browse", "-p", "-r", "-k", "_nigh._tcp")
}

// publish starts avahi-publish.
func (a *avahi) publish(name string, port int, txt ...string) (stop func()) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := a.host.Command(ctx, "avahi-publish", append([]string{"-s", name, "_nigh._tcp", fmt.Sprint(port)}, txt...)...)
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+a.bus)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			_ = cmd.Wait()
		}
	}
	a.t.Cleanup(stop)
	return stop
}

// browsed is a line of avahi-browse -p: op;interface;protocol;name;type;domain;host;address;port;txt.
func browsed(line, op, ifname, name string) (fields []string, ok bool) {
	f := strings.SplitN(line, ";", 10)
	return f, len(f) >= 6 && f[0] == op && f[1] == ifname && unescape(f[3]) == name
}

// Rows 1 to 4 of mdns.md 6, with a name that has every kind of character to be escaped.
func TestBesideAvahi(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	lan.Join(c, "eth0", "10.0.0.3/24")
	av := startAvahi(t, a)
	browser := av.browse()

	// 1: we start while Avahi browses.
	began := time.Now()
	nigh := start(t, b, Config{Instance: `Zoë's "Pi" (2) a.b \ @;`, ShortID: "BBBB-0002", Port: 7500, TXT: []string{"v=1", `n=Zoë "x" \`}})
	browser.await("+", func(s string) bool { _, ok := browsed(s, "+", "eth0", nigh.label); return ok })
	plus := time.Since(began)
	resolved := false
	browser.await("= with the IPv4 address", func(s string) bool {
		f, ok := browsed(s, "=", "eth0", nigh.label)
		if !ok || f[7] != "10.0.0.2" {
			return false
		}
		resolved = f[6] == "nigh-bbbb-0002.local" && f[8] == "7500" && strings.Contains(f[9], `"v=1"`) && strings.Contains(f[9], `Zo`)
		return true
	})
	t.Logf("1: Avahi shows us after %v, resolved after %v (process start included)", plus, time.Since(began))
	if !resolved {
		t.Errorf("1: resolved otherwise: %q", browser.seen)
	}

	// 3: Avahi publishes while we run.
	began = time.Now()
	stop := av.publish("Avahi's thing", 7600, "v=1", "n=x")
	e, _ := nigh.await("3: Avahi's service", func(e Event) bool { return e.Op == Found && e.Instance == "Avahi's thing" })
	t.Logf("3: we show Avahi's service after %v (Avahi probes for 0.8 s)", time.Since(began))
	if e.Host != "avahi-a.local" || e.TXT["n"] != "x" || len(e.Addrs) == 0 || e.Addrs[0].String() != "10.0.0.1:7600" {
		t.Errorf("3: event %+v", e)
	}

	// 2: a newcomer finds both.
	began = time.Now()
	late := start(t, c, Config{ShortID: "CCCC-0003"})
	want := map[string]bool{nigh.label: true, "Avahi's thing": true}
	late.await("2: both", func(e Event) bool { delete(want, e.Instance); return len(want) == 0 })
	t.Logf("2: a newcomer has both after %v (process start included)", time.Since(began))

	// 4: both say goodbye.
	began = time.Now()
	stop()
	nigh.await("4: Avahi's goodbye", func(e Event) bool { return e.Op == Gone && e.Instance == "Avahi's thing" })
	t.Logf("4: Avahi's service is gone after %v", time.Since(began))
	began = time.Now()
	nigh.stop()
	browser.await("4: -", func(s string) bool { _, ok := browsed(s, "-", "eth0", nigh.label); return ok })
	t.Logf("4: Avahi drops us after %v", time.Since(began))
}

// Our host name resolves although the zeroconf library does not answer for it, also beside an avahi-daemon on our own host.
func TestHostNameResolves(t *testing.T) {
	t.Parallel()
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24")
	av, own := startAvahi(t, a), startAvahi(t, b)
	start(t, b, Config{ShortID: "BBBB-0002"}).do("status")
	for _, from := range []*avahi{av, own} {
		for kind, want := range map[string]string{"-4": "10.0.0.2", "-6": "fe80::"} {
			out := from.background("avahi-resolve", kind, "-n", "nigh-bbbb-0002.local").line()
			if f := strings.Fields(out); len(f) != 2 || !strings.HasPrefix(f[1], want) {
				t.Errorf("%s on %s: %q", kind, from.host.Name, out)
			}
		}
	}
}
