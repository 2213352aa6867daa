package transfer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/identity"
)

// The child process of the crash tests: a device that receives everything, until it is killed or its standard input ends.
func TestChild(t *testing.T) {
	dir := os.Getenv("NIGH_TEST_DIR")
	if dir == "" {
		t.Skip("only as the child of TestKilledReceiver")
	}
	b := newBed(t)
	b.remote[sha256.Sum256([]byte("alice"))] = os.Getenv("NIGH_TEST_PEER")
	d := b.deviceIn("bob", dir, acceptAll)
	fmt.Printf("listening %s\n", d.server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// child starts the child process with its state below dir and returns when it listens.
func (b *bed) child(name, dir string, peer *device) *exec.Cmd {
	b.t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "NIGH_TEST_DIR="+dir, "NIGH_TEST_PEER="+peer.server.URL)
	if _, err := cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), "listening "); ok {
			b.mu.Lock()
			b.remote[sha256.Sum256([]byte(name))] = url
			b.mu.Unlock()
			return cmd
		}
	}
	b.t.Fatalf("the child did not start: %v", cmd.Wait())
	return nil
}

// The receiver is killed with -9 at points of the transfer. No file ever has its final name before the end; it goes on by itself; the result
// is equal; little was sent twice.
func TestKilledReceiver(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name   string
		make   func(dir string) int64
		kills  []float64 // shares of the bytes
		resent float64
	}{
		{"file at 45%", func(dir string) int64 { write(t, dir, 256*mib); return 256 * mib }, []float64{0.45}, 0.10},
		{"file again and again", func(dir string) int64 { write(t, dir, 200*mib+77); return 200*mib + 77 },
			[]float64{0.02, rand.Float64(), rand.Float64(), 0.995}, 0.30},
		{"folder at 45%", func(dir string) int64 { return mixed(t, dir, 1500) }, []float64{0.45}, 0.10},
		{"folder again and again", func(dir string) int64 { return mixed(t, dir, 800) }, []float64{0.01, rand.Float64(), rand.Float64(), 0.99}, 0.20},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t)
			alice := b.device("alice", nil)
			path := filepath.Join(t.TempDir(), "Reise")
			total := c.make(path)
			dir := t.TempDir()
			bob := identity.DeviceID(sha256.Sum256([]byte("bob")))
			cmd := b.child("bob", dir, alice)
			inbox := filepath.Join(dir, "inbox")
			killed := make(chan struct{}, 1)
			kill := func() {
				_ = cmd.Process.Kill()
				select {
				case killed <- struct{}{}:
				default:
				}
			}
			next := c.kills
			alice.after(int64(next[0]*float64(total)), kill)
			if _, err := alice.Send(context.Background(), SendRequest{Paths: []string{path}, To: []identity.DeviceID{bob}}); err != nil {
				t.Fatal(err)
			}
			for len(next) > 0 {
				<-killed
				_ = cmd.Wait()
				if entries, err := os.ReadDir(inbox); err == nil {
					for _, e := range entries {
						if !strings.HasSuffix(e.Name(), ".nigh-part") {
							t.Fatalf("%q lies there after the kill", e.Name())
						}
					}
				}
				if next = next[1:]; len(next) > 0 {
					// Counted from here: what is missing is at most this much.
					alice.after(max(1, int64((next[0]*0.5)*float64(total)*0.3)), kill)
				} else {
					alice.around(nil)
				}
				cmd = b.child("bob", dir, alice)
				alice.Wake(bob)
			}
			got := alice.untilState(Done)
			same(t, path, filepath.Join(inbox, "Reise"))
			entries, err := os.ReadDir(inbox)
			if err != nil || len(entries) != 1 {
				t.Errorf("the inbox holds %v, %v", entries, err)
			}
			again := float64(got.Sent-total) / float64(total)
			t.Logf("%d kills, %d of %d bytes sent again: %.1f %%", len(c.kills), got.Sent-total, total, 100*again)
			if again > c.resent {
				t.Errorf("%.1f %% of the bytes were sent again", 100*again)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
	}
}

// mixed makes a folder of n files of very different sizes and returns their bytes.
func mixed(t testing.TB, dir string, n int) (total int64) {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range n {
		size := int(math.Exp2(r.Float64() * 19))
		if i%150 == 149 {
			size = 3<<20 + i
		}
		write(t, filepath.Join(dir, fmt.Sprintf("d%02d", i%13), fmt.Sprintf("f%05d", i)), size)
		total += int64(size)
	}
	return total
}

// The sender stops in the middle and starts again from its store.
func TestSenderRestart(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "tree")
	total := mixed(t, dir, 400)
	half := make(chan struct{})
	alice.after(total/2, func() { close(half) })
	alice.send(bob, dir)
	<-half
	alice.halt()
	bob.until("queued, peer away", func(t Transfer) bool { return t.State == Queued && t.ErrorCode == "peer_gone" })
	bob.parts()
	alice.start()
	bob.Wake(alice.id)
	got := bob.untilState(Done)
	same(t, dir, got.Path)
	alice.untilState(Done)
	bob.clean("tree")
}

// The way is lost and found again, without anyone stopping.
func TestLostWay(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "film"), 64<<20)
	third := make(chan struct{})
	alice.after(20<<20, func() { close(third) })
	alice.send(bob, path)
	<-third
	alice.cut(true)
	bob.until("queued, peer away", func(t Transfer) bool { return t.State == Queued && t.ErrorCode == "peer_gone" })
	if parts := bob.parts(); len(parts) != 1 {
		t.Errorf("parts %q", parts)
	}
	alice.cut(false)
	bob.Wake(alice.id)
	got := bob.untilState(Done)
	same(t, path, got.Path)
	if s := alice.untilState(Done); s.Sent > got.BytesTotal*110/100 {
		t.Errorf("%d bytes sent for %d", s.Sent, got.BytesTotal)
	}
}

// Without anyone saying Wake a short loss is retried.
func TestRetriesByItself(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "film"), 16<<20)
	alice.after(5<<20, alice.server.CloseClientConnections)
	alice.send(bob, path)
	same(t, path, bob.untilState(Done).Path)
}

// What the journal tells is not believed: bytes of a marked group that are not on the disk are fetched again.
func TestDamagedPart(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	path := write(t, filepath.Join(t.TempDir(), "film"), 40<<20)
	half := make(chan struct{})
	alice.after(20<<20, func() { close(half) })
	alice.send(bob, path)
	<-half
	bob.halt()
	part := filepath.Join(bob.inbox, bob.parts()[0])
	f, err := os.OpenFile(part, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	damaged := int64(0)
	for i := range int64(8) {
		// A group that a slow request has not brought yet is a hole.
		there := make([]byte, 64)
		if _, err := f.ReadAt(there, i<<20+99); err != nil && err != io.EOF || bytes.Equal(there, make([]byte, 64)) {
			continue
		}
		damaged++
		if _, err := f.WriteAt([]byte("garbage"), i<<20+99); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	bob.start()
	got := bob.untilState(Done)
	same(t, path, got.Path)
	if again := got.Sent - got.BytesTotal; damaged == 0 || again < damaged*groupBuffer || again > 12<<20 {
		t.Errorf("%d bytes fetched again for %d groups that were damaged", again, damaged)
	}
}

// The part itself is gone: everything is fetched again.
func TestRemovedPart(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", acceptAll)
	dir := filepath.Join(t.TempDir(), "tree")
	total := mixed(t, dir, 300)
	half := make(chan struct{})
	alice.after(total/2, func() { close(half) })
	alice.send(bob, dir)
	<-half
	bob.halt()
	if err := os.RemoveAll(filepath.Join(bob.inbox, bob.parts()[0])); err != nil {
		t.Fatal(err)
	}
	bob.start()
	got := bob.untilState(Done)
	same(t, dir, got.Path)
	if got.BytesDone != total || got.FilesFailed != 0 {
		t.Errorf("done %d of %d, %d failed", got.BytesDone, total, got.FilesFailed)
	}
}

// An offer that waits for an answer survives both sides' restart.
func TestWaitingOfferSurvives(t *testing.T) {
	b := newBed(t)
	alice, bob := b.device("alice", nil), b.device("bob", nil)
	path := write(t, filepath.Join(t.TempDir(), "note"), 100)
	bob.cut(true)
	alice.send(bob, path)
	alice.until("queued, peer away", func(t Transfer) bool { return t.State == Queued && t.ErrorCode == "peer_gone" })
	alice.halt()
	bob.cut(false)
	alice.start()
	alice.Wake(bob.id)
	alice.untilState(Waiting)
	bob.untilState(Waiting)
	alice.halt()
	bob.halt()
	bob.start()
	alice.start()
	offer := bob.untilState(Waiting)
	if err := bob.Accept(offer.ID, ""); err != nil {
		t.Fatal(err)
	}
	same(t, path, bob.untilState(Done).Path)
	alice.untilState(Done)
}
