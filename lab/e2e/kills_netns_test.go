//go:build netns

package e2e_test

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// The whole measure of this test is -kills 200 -bytes 2147483648; what runs without is a short one.
var (
	killCount = flag.Int("kills", 6, "how often TestRandomKills kills a side or the link")
	killBytes = flag.Int64("bytes", 192<<20, "size of the batch that TestRandomKills sends")
	killMbit  = flag.Int("mbit", 200, "rate of the links of TestRandomKills in Mbit/s")
	killSeed  = flag.Uint64("seed", 0, "seed of TestRandomKills; 0 takes a new one")
)

// batch writes a folder and two files beside it, of mixed sizes and about total bytes in all, and returns their paths and the bytes.
func batch(t *testing.T, rng *rand.Rand, dir string, total int64) (paths []string, bytes int64) {
	t.Helper()
	content := bufio.NewReaderSize(rand.NewChaCha8([32]byte{byte(rng.Uint32())}), 1<<20)
	file := func(path string, size int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := io.CopyN(f, content, size); err != nil {
			t.Fatal(err)
		}
		bytes += size
	}
	tree := filepath.Join(dir, "batch")
	file(filepath.Join(dir, "film.mov"), total/4)
	file(filepath.Join(dir, "note.txt"), 1234)
	file(filepath.Join(tree, "large"), total/8)
	file(filepath.Join(tree, "empty"), 0)
	for n := 0; bytes < total; n++ {
		// Each kind brings a similar part of the bytes.
		most := []int64{4 << 10, 4 << 10, 64 << 10, 64 << 10, 1 << 20, total / 64}[n%6]
		file(filepath.Join(tree, fmt.Sprintf("%02d", n/100), fmt.Sprintf("%d", n)), min(rng.Int64N(most+1), total-bytes))
	}
	return []string{tree, filepath.Join(dir, "film.mov"), filepath.Join(dir, "note.txt")}, bytes
}

// TestRandomKills kills sender, receiver, both and the link at random moments of a batch of mixed sizes. In the end every file is equal,
// there is nothing beside them, and little was sent twice.
func TestRandomKills(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	for i, h := range []*lab.Host{ha, hb} {
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		lan.Slow(h, "eth0", *killMbit)
	}
	ada, bob := start(t, ha, "ada", "--accept", "trusted"), start(t, hb, "bob", "--accept", "trusted")
	befriend(t, ada, bob)
	if err := ada.Await(within(t, 60*time.Second), hasPeer("bob", "ready")); err != nil {
		t.Fatal(err)
	}
	src := t.TempDir()
	paths, total := batch(t, rng, src, *killBytes)
	before, packets := gave(t, ha, "eth0"), sentPackets(t, ha, "eth0")
	if _, errs, code := ada.Run(within(t, time.Minute), append([]string{"send", "--to", "bob"}, paths...)...); code != 0 {
		t.Fatalf("send: exit %d: %s", code, errs)
	}
	points := make([]int64, *killCount)
	for i := range points {
		points[i] = rng.Int64N(total)
	}
	slices.Sort(points)
	for i := range (len(points) + 19) / 20 {
		points[len(points)-1-i] = total // when the final names are given
	}
	began, late := time.Now(), 0
	counts := map[string]int{}
	for i, point := range points {
		if reached(t, bob, point) == "done" {
			late++
		}
		what := []string{"sender", "receiver", "both", "link"}[rng.IntN(4)]
		counts[what]++
		if what == "link" {
			end := []*lab.Host{ha, hb}[rng.IntN(2)]
			lan.Unplug(end, "eth0")
			<-time.After(time.Duration(rng.IntN(1000)) * time.Millisecond)
			lan.Mend(end, "eth0")
			continue
		}
		var restart sync.WaitGroup
		for k, a := range []*node.Agent{ada, bob} {
			if what == "both" || what == []string{"sender", "receiver"}[k] {
				restart.Go(func() {
					if err := a.Kill(); err != nil {
						t.Error(err)
					}
					if err := a.Start(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		restart.Wait()
		if t.Failed() {
			t.Fatalf("after %d kills, the last of %s", i+1, what)
		}
	}
	for _, a := range []*node.Agent{ada, bob} {
		if state := reached(t, a, 1<<62); state != "done" {
			t.Fatalf("%s: the transfer is %s\n%s", a.Name, state, a.Tail())
		}
	}
	wire := gave(t, ha, "eth0") - before
	sent := float64(wire-packetHeader*(sentPackets(t, ha, "eth0")-packets)) / float64(total)
	t.Logf("%d bytes, %d kills %v in %v, %d of them when it was done; %.3f times the batch was sent, with the headers of packets %.3f",
		total, len(points), counts, time.Since(began).Round(100*time.Millisecond), late, sent, float64(wire)/float64(total))
	if late > len(points)/4 {
		t.Errorf("%d of %d kills came when it was done", late, len(points))
	}
	if want, got := digest(t, src), digest(t, bob.Inbox); want != got {
		t.Errorf("the inbox holds\n%s\nwant\n%s", got, want)
	}
	if most := 1.1; sent > most {
		t.Errorf("%.3f times the batch was sent, want at most %.1f", sent, most)
	}
}

// packetHeader is what Ethernet, IPv4 and TCP put before the bytes of a packet; IPv6 puts more.
const packetHeader = 14 + 20 + 32

func sentPackets(t *testing.T, h *lab.Host, ifname string) (packets int64) {
	t.Helper()
	out, err := h.Command(t.Context(), "cat", "/sys/class/net/"+ifname+"/statistics/tx_packets").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &packets); err != nil {
		t.Fatal(err)
	}
	return packets
}

// reached waits until the agent's only transfer has so many bytes and is about to get its final names if that is all of them, or has
// ended, and returns its state.
func reached(t *testing.T, a *node.Agent, bytes int64) (state string) {
	t.Helper()
	err := a.Await(within(t, 3*time.Minute), func(s control.State) bool {
		if len(s.Transfers) != 1 {
			if len(s.Transfers) > 1 {
				t.Errorf("%s has %d transfers", a.Name, len(s.Transfers))
			}
			return false
		}
		x := s.Transfers[0]
		state = x.State
		switch {
		case x.State == "failed", x.State == "refused":
			t.Errorf("%s: the transfer failed: %+v", a.Name, x)
			return true
		case x.State == "done", x.State == "verifying" && bytes <= x.BytesTotal:
			return true
		}
		return x.BytesDone >= bytes && bytes < x.BytesTotal
	})
	if err != nil {
		t.Fatal(err)
	}
	return state
}
