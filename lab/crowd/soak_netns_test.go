//go:build netns

package crowd

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// The bounds of what use may leave behind in an agent, once it has settled.
const (
	soakAnon  = 4 << 20 // more memory of its own at the end than when it had settled
	soakFiles = 6       // more open files
	soakStart = 4       // windows of twelve in which it settles, at least
	// Rounds after which a device keeps as many transfers, and messages of each of the others, as it ever will: a third of the
	// rounds brings a message of the same device. Until then what it remembers grows, as it should.
	soakFull = 3 * 1024
)

// TestSoak has six devices that all know one another do nothing, and then everything, over and over: messages, transfers that are
// finished, cancelled and interrupted, searches, a link that goes and comes, an agent that is started anew. What the agents take
// does not grow. With NIGH_SOAK=1h (or another time) it lasts that long, a sixth of it without use.
func TestSoak(t *testing.T) {
	length := 24 * time.Second
	if text, ok := os.LookupEnv("NIGH_SOAK"); ok {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < 10*time.Second || length > 48*time.Hour {
			t.Fatalf("NIGH_SOAK=%q is no time", text)
		}
	}
	const devices = 6
	c := New(t, devices)
	if err := c.Start(t.Context(), 0, devices, "--accept", "trusted"); err != nil {
		t.Fatal(err)
	}
	for i, a := range c.Agents {
		befriendAll(t, a, c.Agents[i+1:])
	}
	for _, a := range c.Agents {
		together(t, a, devices-1)
	}
	rests(t, c, length/6)

	s := soak{t: t, c: c, files: lab.Memory(t)}
	if _, err := c.Agents[1].Client().AddShare(t.Context(), control.ShareRequest{Folder: s.files, Name: "files"}); err != nil {
		t.Fatal(err)
	}
	const windows = 12
	var seen [windows][]taken
	settles := soakStart // windows
	for w := range windows {
		began := s.round
		for end := time.Now().Add(length * 5 / 6 / windows); time.Now().Before(end); s.round++ {
			s.one()
		}
		seen[w] = s.takes()
		if began < soakFull && s.round >= soakFull && w < windows-1 {
			settles = max(settles, w+1)
		}
		t.Logf("window %d of %d, after %d rounds: %v", w+1, windows, s.round, seen[w])
	}
	for i, name := range lasting {
		settled, end := highest(seen[:settles], i), highest(seen[max(settles, windows-soakStart):], i)
		t.Logf("measured: after %d rounds %s has %.1f MiB RSS, %.1f of its own, and %d open files at most, once settled %.1f, %.1f and %d; its state is %d KiB", s.round, name,
			mib(end.rss), mib(end.anon), end.files, mib(settled.rss), mib(settled.anon), settled.files, end.state>>10)
		if end.anon > settled.anon+soakAnon || end.files > settled.files+soakFiles {
			t.Errorf("%s grows: %+v, once settled %+v", name, end, settled)
		}
	}
}

// rests measures the first device while none does anything: what it takes, and what is on the segment.
func rests(t *testing.T, c *Crowd, measured time.Duration) {
	t.Helper()
	pause(t, min(measured, 30*time.Second)) // the first questions on a link are 1, 3, 9 and 27 s apart
	counter, before := c.LAN.Count(t), usage(t, c, 0)
	pause(t, measured)
	u := usage(t, c, 0)
	spent, traffic := u.Sub(before), counter.Total(t)
	minutes := measured.Minutes()
	t.Logf("measured: idle for %v with %d known devices near, an agent has %.1f MiB RSS, takes %.4f %% of a processor and is woken %.0f times a minute; %.1f packets a minute for each device",
		measured, len(c.Agents)-1, mib(u.RSS), 100*spent.CPU.Seconds()/measured.Seconds(), float64(spent.Wakeups)/minutes,
		float64(traffic.All)/minutes/float64(len(c.Agents)))
	if u.RSS > idleRSS {
		t.Errorf("%.1f MiB RSS, want at most %.1f", mib(u.RSS), mib(idleRSS))
	}
	if most := lab.Bound(t, time.Duration(idleShare*float64(measured))); spent.CPU > most {
		t.Errorf("%v of processor time in %v, want at most %v", spent.CPU, measured, most)
	}
}

// lasting are the devices that live from the beginning to the end.
var lasting = []string{Name(0), Name(1), Name(2)}

const (
	unplugged = 4 // the device whose link goes and comes
	restarted = 5 // the device whose agent does
)

// soak is devices in use.
type soak struct {
	t     *testing.T
	c     *Crowd
	files string // a folder for what is sent
	round int
}

// taken is what an agent takes of its machine.
type taken struct {
	rss   int64
	anon  int64 // of rss: the database is mapped, and its pages are in rss while there is room for them
	files int
	state int64 // bytes of its state folder
}

func (v taken) String() string {
	return fmt.Sprintf("%.1f MiB, %.1f its own, %d files, %d KiB", mib(v.rss), mib(v.anon), v.files, v.state>>10)
}

func (s *soak) takes() (all []taken) {
	s.t.Helper()
	for i := range lasting {
		a := s.c.Agents[i]
		open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(a.PID()), "fd"))
		if err != nil {
			s.t.Fatal(err)
		}
		u := usage(s.t, s.c, i)
		v := taken{rss: u.RSS, anon: u.Anon, files: len(open)}
		err = filepath.WalkDir(a.State, func(_ string, e fs.DirEntry, err error) error {
			if info, failed := e.Info(); err == nil && failed == nil && info.Mode().IsRegular() {
				v.state += info.Size()
			}
			return nil // a temporary file may be gone
		})
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, v)
	}
	return all
}

// highest is the most that a device took in some windows.
func highest(windows [][]taken, device int) (most taken) {
	for _, w := range windows {
		v := w[device]
		most = taken{max(most.rss, v.rss), max(most.anon, v.anon), max(most.files, v.files), max(most.state, v.state)}
	}
	return most
}

// one is a round of use.
func (s *soak) one() {
	s.t.Helper()
	from, to := s.round%3, (s.round+1)%3
	a, b := s.c.Agents[from], s.c.Agents[to]
	text := fmt.Sprintf("round %d", s.round)
	if _, err := a.Client().SendMessage(s.t.Context(), control.MessageRequest{Text: text, All: true}); err != nil {
		s.t.Fatal(err)
	}
	name := fmt.Sprintf("file-%d", s.round)
	path := filepath.Join(s.files, name)
	if err := node.Random(path, 1<<20); err != nil {
		s.t.Fatal(err)
	}
	s.sent(a, b, path, false)
	if err := os.Remove(filepath.Join(b.Inbox, name)); err != nil {
		s.t.Fatal(err)
	}
	switch s.round % 10 {
	case 3:
		if _, err := b.Client().Search(s.t.Context(), control.SearchRequest{Query: "file"}); err != nil {
			s.t.Fatal(err)
		}
	case 5:
		s.sent(a, b, path, true)
	case 7:
		s.c.LAN.Cut(s.c.Hosts[unplugged], "eth0")
	case 8:
		s.c.LAN.Mend(s.c.Hosts[unplugged], "eth0")
	case 9:
		r := s.c.Agents[restarted]
		if err := r.Stop(); err != nil {
			s.t.Fatal(err)
		}
		if err := r.Start(s.t.Context()); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		s.t.Fatal(err)
	}
}

// sent sends a file and waits until the transfer has ended; when cancelled, it is ended as soon as it has begun.
func (s *soak) sent(a, b *node.Agent, path string, cancelled bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute) // the soak may run beside other work, which then comes first
	defer cancel()
	list, err := a.Client().Send(ctx, control.SendRequest{Paths: []string{path}, To: []string{b.Name}})
	if err != nil || len(list) != 1 {
		s.t.Fatalf("send to %s: %v", b.Name, err)
	}
	if cancelled {
		_ = a.Client().CancelTransfer(ctx, list[0].ID) // it may have ended before
	}
	ended := []string{"done", "failed", "refused"}
	err = a.Await(ctx, func(state control.State) bool {
		i := slices.IndexFunc(state.Transfers, func(x control.Transfer) bool { return x.ID == list[0].ID })
		return i < 0 || slices.Contains(ended, state.Transfers[i].State)
	})
	if err != nil {
		s.t.Fatalf("transfer to %s: %v", b.Name, err)
	}
}
