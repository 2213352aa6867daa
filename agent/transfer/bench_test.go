package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/identity"
	"nigh/agent/session"
	"nigh/agent/store"
	"nigh/agent/trust"
)

// The benchmarks move the same things with cp, with nc (and tar) over plain TCP, and with two engines over real sessions, in turns, on
// loopback and tmpfs. Both ends share the machine's processors. Ratios of times are reported: 1.5 x-nc means half as long again.

// A secure is a device on a real session.
type secure struct {
	*Engine
	id    identity.DeviceID
	peer  *session.Sessions
	done  chan Transfer
	inbox string
}

func newSecure(b *testing.B, dir string, to func() map[identity.DeviceID]netip.AddrPort) *secure {
	b.Helper()
	id, err := identity.Load(filepath.Join(dir, "key"))
	if err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(filepath.Join(dir, "state"))
	if err != nil {
		b.Fatal(err)
	}
	d := &secure{id: id.ID, done: make(chan Transfer, 16), inbox: filepath.Join(dir, "inbox")}
	handler, last := http.Handler(nil), ""
	d.peer, err = session.New(session.Config{Identity: id, Listen: "127.0.0.1:0",
		Standing: func(identity.DeviceID) trust.Standing { return trust.Trusted },
		Addresses: func(id identity.DeviceID) []session.Candidate {
			return []session.Candidate{{Addr: to()[id], Kind: "lan"}}
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) })})
	if err != nil {
		b.Fatal(err)
	}
	d.Engine, err = New(Config{Store: s, Self: id.ID, Peers: d.peer, Inbox: d.inbox,
		Caller: func(r *http.Request) (identity.DeviceID, bool) { return session.PeerFrom(r.Context()).ID, true },
		Decide: func(Offer) Decision { return Accept },
		Changed: func(t Transfer) {
			if t.State.Ended() && t.ID != last { // reported again when it was cleaned up
				last = t.ID
				d.done <- t
			}
		}})
	if err != nil {
		b.Fatal(err)
	}
	handler = d.Handler()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() { _ = d.peer.Run(ctx); ended <- struct{}{} }()
	go func() { _ = d.Run(ctx); ended <- struct{}{} }()
	b.Cleanup(func() {
		cancel()
		<-ended
		<-ended
		_ = s.Close()
	})
	return d
}

func benchmark(b *testing.B, total int64, make func(path string)) {
	if _, err := exec.LookPath("nc"); err != nil {
		b.Skip("needs nc (netcat-openbsd)")
	}
	dir, err := os.MkdirTemp("/dev/shm", "nigh-bench-")
	if err != nil {
		b.Skipf("needs a tmpfs at /dev/shm: %v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "src")
	make(path)
	addresses := map[identity.DeviceID]netip.AddrPort{}
	to := func() map[identity.DeviceID]netip.AddrPort { return addresses }
	alice, bob := newSecure(b, filepath.Join(dir, "alice"), to), newSecure(b, filepath.Join(dir, "bob"), to)
	for _, d := range []*secure{alice, bob} {
		addresses[d.id] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), d.peer.Port())
	}
	fi, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	var cp, nc, ours, ncCPU, ourCPU time.Duration
	out := filepath.Join(dir, "out")
	clear := func(p string) {
		if err := os.RemoveAll(p); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		clear(out)
		cp += run(b, "cp -r "+path+" "+out)
		clear(out)
		before := cpu(b, unix.RUSAGE_CHILDREN)
		nc += netcat(b, path, out, fi.IsDir())
		ncCPU += cpu(b, unix.RUSAGE_CHILDREN) - before
		clear(out)
		before = cpu(b, unix.RUSAGE_SELF)
		began := time.Now()
		if _, err := alice.Send(context.Background(), SendRequest{Paths: []string{path}, To: []identity.DeviceID{bob.id}}); err != nil {
			b.Fatal(err)
		}
		got := <-bob.done
		ours += time.Since(began)
		if got.State != Done || got.BytesDone != total {
			b.Fatalf("%+v", got)
		}
		<-alice.done
		ourCPU += cpu(b, unix.RUSAGE_SELF) - before
		clear(got.Path)
	}
	b.ReportMetric(float64(total)*float64(b.N)/ours.Seconds()/1e6, "MB/s")
	b.ReportMetric(ours.Seconds()/cp.Seconds(), "x-cp")
	b.ReportMetric(ours.Seconds()/nc.Seconds(), "x-nc")
	b.ReportMetric(ours.Seconds()/float64(b.N), "s")
	b.ReportMetric(nc.Seconds()/float64(b.N), "nc-s")
	b.ReportMetric(ourCPU.Seconds()/float64(b.N), "cpu-s")
	b.ReportMetric(ncCPU.Seconds()/float64(b.N), "nc-cpu-s")
	b.ReportMetric(peakRSS(b), "peak-MiB")
}

// netcat moves path to out with nc, and tar when it is a folder, and returns how long the sender and the receiver took.
func netcat(b *testing.B, path, out string, folder bool) time.Duration {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	receive := fmt.Sprintf("exec nc -l -N 127.0.0.1 %d </dev/null >%s", port, out)
	send := fmt.Sprintf("exec nc -N 127.0.0.1 %d <%s", port, path)
	if folder {
		receive = fmt.Sprintf("mkdir %s; nc -l -N 127.0.0.1 %d </dev/null | tar -C %s -xf -", out, port, out)
		send = fmt.Sprintf("tar -C %s -cf - . | nc -N 127.0.0.1 %d", path, port)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	said := &bytes.Buffer{}
	receiver := exec.CommandContext(ctx, "sh", "-c", receive)
	receiver.Stderr, receiver.SysProcAttr = said, &unix.SysProcAttr{Setpgid: true}
	receiver.Cancel = func() error { return unix.Kill(-receiver.Process.Pid, unix.SIGKILL) } // the shell's children too
	if err := receiver.Start(); err != nil {
		b.Fatal(err)
	}
	end := func(why error) {
		cancel()
		b.Fatal(errors.Join(why, receiver.Wait()), said)
	}
	// A connection made to look would be the one that nc serves.
	for line := fmt.Sprintf("0100007F:%04X 00000000:0000 0A", port); ; {
		sockets, err := os.ReadFile("/proc/net/tcp")
		if err == nil && bytes.Contains(sockets, []byte(line)) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			end(err)
		}
		runtime.Gosched()
	}
	began := time.Now()
	if p, err := exec.CommandContext(ctx, "sh", "-c", send).CombinedOutput(); err != nil {
		end(fmt.Errorf("%s: %w: %s", send, err, p))
	}
	if err := receiver.Wait(); err != nil {
		b.Fatal(err, said)
	}
	return time.Since(began)
}

// cpu is the processor time of this process or of its children that ended: the figure to judge by on a machine that others load.
func cpu(b *testing.B, who int) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(who, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func run(b *testing.B, script string) time.Duration {
	began := time.Now()
	if p, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		b.Fatalf("%s: %v: %s", script, err, p)
	}
	return time.Since(began)
}

// peakRSS is that of the process, so of both ends together.
func peakRSS(b *testing.B) float64 {
	p, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	var kib float64
	_, after, _ := strings.Cut(string(p), "VmHWM:")
	_, _ = fmt.Sscan(after, &kib)
	return kib / 1024
}

func BenchmarkOneFile(b *testing.B) {
	benchmark(b, 1<<30, func(path string) { write(b, path, 1<<30) })
}

func BenchmarkSmallFiles(b *testing.B) {
	benchmark(b, 10_000*4096, func(path string) {
		for i := range 10_000 {
			write(b, filepath.Join(path, fmt.Sprintf("d%02d", i%100), fmt.Sprintf("f%05d", i)), 4096)
		}
	})
}

func BenchmarkMixedTree(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "probe")
	total := mixed(b, dir, 7000)
	_ = os.RemoveAll(dir)
	benchmark(b, total, func(path string) { mixed(b, path, 7000) })
}

func BenchmarkManyFiles(b *testing.B) {
	benchmark(b, 100_000*100, func(path string) {
		for i := range 100_000 {
			write(b, filepath.Join(path, fmt.Sprintf("d%03d", i%500), fmt.Sprintf("f%06d", i)), 100)
		}
	})
}
