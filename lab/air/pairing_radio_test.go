//go:build radio

package air_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/control"
	"nigh/lab/node"
)

// clock sets the guest's wall clock, which is put right when the test ends.
func clock(t *testing.T) (set func(year int)) {
	t.Helper()
	began := time.Now()
	put := func(at time.Time) {
		tv := unix.NsecToTimeval(at.UnixNano())
		if err := unix.Settimeofday(&tv); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { put(began.Add(time.Since(began))) })
	// The kernel sets no time before its own start would have been before 1970.
	return func(year int) { put(time.Date(year, 1, 2, 0, 0, 0, 0, time.UTC)) }
}

// asks is how often an agent asked its user whether to form a group.
func asks(t *testing.T, a *node.Agent) int {
	t.Helper()
	raw, err := os.ReadFile(a.Log)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "Device asks to form a group")
}

// waiting waits for something of a kind in an agent's inbox.
func waiting(ctx context.Context, t *testing.T, a *node.Agent, kind string) control.InboxItem {
	t.Helper()
	var found control.InboxItem
	if err := a.Await(ctx, func(s control.State) bool {
		for _, i := range s.Inbox {
			if i.Kind == kind {
				found = i
			}
		}
		return found.ID != ""
	}); err != nil {
		t.Fatal(err)
	}
	return found
}

// TestPairingOverWiFiDirect is the first contact of two devices that share no network:
// nigh pair asks for a group by the button, which the other user allows, then both compare
// a code. From then on they form groups and send without a question. The wall clock, which
// jumps from 1970 to 2099 meanwhile and back with a restart of both, plays no part.
func TestPairingOverWiFiDirect(t *testing.T) {
	year := clock(t)
	year(1970)
	_, ada, bob := onAir(t, "--accept", "trusted")
	look(t, ada)
	await(t, ada, time.Minute, hasPeer("bob", "visible"))
	ctx := within(t, 5*time.Minute)
	type result struct {
		on, out string
		code    int
	}
	results := make(chan result, 3)
	run := func(a *node.Agent, args ...string) {
		go func() { // each is read below
			out, errs, code := a.Run(ctx, args...)
			results <- result{a.Name + " " + strings.Join(args, " "), out + errs, code}
		}()
	}
	begin := time.Now()
	run(ada, "pair", "bob")
	group := waiting(ctx, t, bob, "group")
	t.Logf("bob is asked for a group after %.1f s", time.Since(begin).Seconds())
	nigh(t, bob, time.Minute, "accept", group.ID)
	atA, atB := waiting(ctx, t, ada, "pair"), waiting(ctx, t, bob, "pair")
	t.Logf("both show a code %.1f s after the command", time.Since(begin).Seconds())
	if atA.Code != atB.Code || len(atA.Code) != 6 || atB.Trust != "new" {
		t.Fatalf("ada shows %+v, bob %+v", atA, atB)
	}
	year(2099)
	run(ada, "accept", atA.ID)
	run(bob, "accept", atB.ID)
	for range 3 {
		if r := <-results; r.code != 0 {
			t.Errorf("%s: exit %d: %s", r.on, r.code, r.out)
		}
	}
	together(t, ada, bob)
	before := asks(t, bob)
	apart(t, ada, bob)
	// A machine without a clock that runs is back in 1970 when it starts again.
	year(1970)
	for _, a := range []*node.Agent{ada, bob} {
		restart(t, a, "--accept", "trusted")
	}
	begin = time.Now()
	if err := join(within(t, 3*time.Minute), ada, "bob"); err != nil {
		t.Fatal(err)
	}
	together(t, ada, bob)
	t.Logf("together again %.1f s after the command", time.Since(begin).Seconds())
	if n := asks(t, bob) + asks(t, ada); n != before || before != 1 {
		t.Errorf("users were asked %d times for a group, %d of them before the pairing", n, before)
	}
	nigh(t, bob, time.Minute, "msg", "what year is it", "--to", "ada", "--wait", "--timeout", "50s")
	year(2099) // with a session under way
	nigh(t, ada, time.Minute, "msg", "a late one", "--to", "bob", "--wait", "--timeout", "50s")
	file := filepath.Join(t.TempDir(), "silent.bin")
	random(t, file, 200_000)
	nigh(t, ada, 2*time.Minute, "send", file, "--to", "bob", "--wait")
	same(t, file, bob)
}
