package transfer

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
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
		script := "(nc -l -N 127.0.0.1 7499 </dev/null >" + out + ") & sleep 0.1; nc -N 127.0.0.1 7499 <" + path + "; wait"
		if fi.IsDir() {
			script = "mkdir " + out + "; (nc -l -N 127.0.0.1 7499 </dev/null | tar -C " + out + " -xf -) & sleep 0.1; tar -C " + path +
				" -cf - . | nc -N 127.0.0.1 7499; wait"
		}
		before := cpu(b, unix.RUSAGE_CHILDREN)
		nc += run(b, script) - 100*time.Millisecond
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
