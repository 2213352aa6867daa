// Package avahi runs real avahi-daemons in the namespaces of a lab.Net, each on a D-Bus of its own, and the programs and
// calls that make one look for services and publish some. It needs the Debian packages avahi-daemon, avahi-utils and
// dbus-daemon, and touches no daemon of this machine.
package avahi

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/lab"
)

// Wait is how long Await waits for what never comes if something is wrong.
const Wait = 30 * time.Second

// Daemon is an avahi-daemon in a host's namespace.
type Daemon struct {
	tb      testing.TB
	host    *lab.Host
	dir     string
	bus     string
	process *Lines

	mu  sync.Mutex
	log []string // guarded by mu
}

// busConf lets everybody on the bus do everything.
const busConf = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>%s</listen><policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`

const daemonConf = `[server]
host-name=avahi-%s
ratelimit-burst=1000
use-ipv4=yes
use-ipv6=yes
[publish]
publish-workstation=no
publish-hinfo=no
[wide-area]
enable-wide-area=no
`

// Bus starts a D-Bus in a folder and returns its address. It ends with the test.
func Bus(tb testing.TB, h *lab.Host, dir string) string {
	tb.Helper()
	address := "unix:path=" + filepath.Join(dir, "bus")
	conf := filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, busConf, address), 0o644); err != nil {
		tb.Fatal(err)
	}
	Background(tb, h, nil, "dbus-daemon", "--nofork", "--config-file="+conf, "--print-address").Await("its address", func(string) bool { return true })
	return address
}

// Folder makes a folder with a short name, as sockets need, that everybody may enter. It is removed with the test.
func Folder(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "nigh")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		tb.Fatal(err)
	}
	return dir
}

// Start returns when the daemon answers. It skips the test, with the reason, when a program is missing.
func Start(tb testing.TB, h *lab.Host) *Daemon {
	tb.Helper()
	for program, pkg := range map[string]string{"avahi-daemon": "avahi-daemon", "avahi-browse": "avahi-utils", "dbus-daemon": "dbus-daemon", "stdbuf": "coreutils"} {
		if _, err := exec.LookPath(program); err != nil {
			tb.Skipf("needs %s: apt-get install %s", program, pkg)
		}
	}
	d := &Daemon{tb: tb, host: h, dir: Folder(tb)}
	if err := os.WriteFile(filepath.Join(d.dir, "avahi.conf"), fmt.Appendf(nil, daemonConf, h.Name), 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.MkdirAll("/run/avahi-daemon", 0o755); err != nil {
		tb.Fatal(err)
	}
	d.bus = Bus(tb, h, d.dir)
	d.run()
	return d
}

// run starts the daemon. ip-netns gives the process a mount namespace of its own, so several daemons can have the same
// folders.
func (d *Daemon) run() {
	d.tb.Helper()
	d.process = Background(d.tb, d.host, []string{"DBUS_SYSTEM_BUS_ADDRESS=" + d.bus}, "sh", "-c",
		"mount -t tmpfs tmpfs /run/avahi-daemon && mount -t tmpfs tmpfs /etc/avahi/services && exec avahi-daemon -f "+
			filepath.Join(d.dir, "avahi.conf")+" --no-drop-root --no-chroot --no-rlimits 2>&1")
	d.process.Await("the daemon's start", func(line string) bool {
		d.note(line)
		return strings.Contains(line, "Server startup complete")
	})
	process := d.process
	go func() {
		for l := range process.out {
			d.note(l.text)
		}
	}()
}

func (d *Daemon) note(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, line)
}

// Log returns what the daemon said so far.
func (d *Daemon) Log() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.log, "\n")
}

// Restart ends the daemon as its service does, and starts it again.
func (d *Daemon) Restart() {
	d.tb.Helper()
	d.process.Stop()
	d.run()
}

// Kill ends the daemon as a crash does.
func (d *Daemon) Kill() {
	d.tb.Helper()
	_ = d.process.cmd.Process.Kill()
	d.process.Stop()
}

// Browse starts avahi-browse -p -r -k for _nigh._tcp. Its lines are for [Parse].
func (d *Daemon) Browse() *Lines {
	d.tb.Helper()
	return d.Run("stdbuf", "-oL", "avahi-browse", "-p", "-r", "-k", "_nigh._tcp")
}

// Run starts a program that talks to the daemon. It ends with the test.
func (d *Daemon) Run(name string, arg ...string) *Lines {
	d.tb.Helper()
	return Background(d.tb, d.host, []string{"DBUS_SYSTEM_BUS_ADDRESS=" + d.bus}, name, arg...)
}

// Publish starts avahi-publish for a service of type _nigh._tcp.
func (d *Daemon) Publish(name string, port int, txt ...string) *Lines {
	d.tb.Helper()
	return d.Run("avahi-publish", append([]string{"-s", name, "_nigh._tcp", fmt.Sprint(port)}, txt...)...)
}

// Found is a line of avahi-browse -p.
type Found struct {
	Op      string // "+", "=" or "-"
	Ifname  string
	Name    string // unescaped
	Host    string // of "=" only, like the following
	Address string
	Port    string
	TXT     string
}

// Parse reads op;interface;protocol;name;type;domain;host;address;port;txt. The rest of a line that is not one is zero.
func Parse(line string) Found {
	f := strings.SplitN(line, ";", 10)
	if len(f) < 6 {
		return Found{}
	}
	out := Found{Op: f[0], Ifname: f[1], Name: unescape(f[3])}
	if len(f) == 10 {
		out.Host, out.Address, out.Port, out.TXT = f[6], f[7], f[8], f[9]
	}
	return out
}

// unescape undoes \DDD and \X.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		var n int
		if i+3 < len(s) {
			if _, err := fmt.Sscanf(s[i+1:i+4], "%03d", &n); err == nil && n < 256 {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

// Lines is the output of a program that runs until it is stopped or the test ends.
type Lines struct {
	tb     testing.TB
	what   string
	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    chan line
	ended  chan struct{}
	Seen   []string // lines that were taken
}

type line struct {
	text string
	at   time.Time
}

// Background starts a program in a host's namespace.
func Background(tb testing.TB, h *lab.Host, env []string, name string, arg ...string) *Lines {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.Command(ctx, name, arg...)
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout // what a program complains of is part of what it says
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	l := &Lines{tb: tb, what: name, cmd: cmd, cancel: cancel, out: make(chan line, 4096), ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			l.out <- line{scan.Text(), time.Now()}
		}
		close(l.out)
		_ = cmd.Wait()
	}()
	tb.Cleanup(l.Stop)
	return l
}

// Stop ends the program as Ctrl-C does, and returns when it has ended.
func (l *Lines) Stop() {
	l.cancel()
	for {
		select {
		case <-l.ended:
			return
		case _, open := <-l.out:
			if !open {
				<-l.ended
				return
			}
		}
	}
}

// Await returns the first line that ok accepts, and when it came.
func (l *Lines) Await(what string, ok func(string) bool) (string, time.Time) {
	l.tb.Helper()
	return l.AwaitFor(Wait, what, ok)
}

// AwaitFor is Await with another limit.
func (l *Lines) AwaitFor(limit time.Duration, what string, ok func(string) bool) (string, time.Time) {
	l.tb.Helper()
	deadline := time.After(limit)
	for {
		select {
		case s, open := <-l.out:
			if !open {
				l.tb.Fatalf("%s ended while waiting for %s; it said %q", l.what, what, l.Seen)
			}
			l.Seen = append(l.Seen, s.text)
			if ok(s.text) {
				return s.text, s.at
			}
		case <-deadline:
			l.tb.Fatalf("%s: not in %v: %s; it said %q", l.what, limit, what, l.Seen)
		}
	}
}

// Times gives the time of each line that has a text in it, until the program ends.
func (l *Lines) Times(text string) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		for s := range l.out {
			if strings.Contains(s.text, text) && !yield(s.at) {
				return
			}
		}
	}
}

// Pending returns the lines that are there.
func (l *Lines) Pending() (out []string) {
	for {
		select {
		case s, open := <-l.out:
			if !open {
				return out
			}
			l.Seen = append(l.Seen, s.text)
			out = append(out, s.text)
		default:
			return out
		}
	}
}
