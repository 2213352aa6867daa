package hostile

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/agent/identity"
	"nigh/lab/node"
)

// TestAttacks makes every attack on a running agent: it reaches the agent, the agent refuses, and stands.
func TestAttacks(t *testing.T) {
	b := newBed(t, t.TempDir())
	film := filepath.Join(t.TempDir(), "film")
	if err := node.Random(film, 3<<20); err != nil {
		t.Fatal(err)
	}
	b.target.Send = func(ctx context.Context, to identity.DeviceID) error {
		ready := func(s control.State) bool {
			for _, p := range s.Peers {
				if p.ID == to.String() && p.State == "ready" {
					return true
				}
			}
			return false
		}
		if err := b.ada.Await(ctx, ready); err != nil {
			return err
		}
		_, err := b.ada.Client().Send(ctx, control.SendRequest{Paths: []string{film}, To: []string{to.String()}})
		return err
	}
	b.stands()
	type result struct {
		did string
		err error
	}
	waiting := map[string]chan result{}
	var work sync.WaitGroup
	defer work.Wait()
	begin := func(a Attack) (p *Peer, results chan result) {
		p, err := New(b.target)
		if err != nil {
			t.Fatal(err)
		}
		if a.As == Traitor {
			b.trust(p.ID, "add")
		}
		results = make(chan result, 1)
		work.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
			defer cancel()
			did, err := a.Run(ctx, p)
			results <- result{did, err}
		})
		return p, results
	}
	attacks := Attacks()
	for _, a := range attacks { // they wait for the agent's patience to end, beside the others
		if a.Slow {
			_, waiting[a.Name] = begin(a)
		}
	}
	seen := map[string]bool{}
	for _, a := range attacks {
		if seen[a.Name] {
			t.Errorf("two attacks are called %q", a.Name)
		}
		seen[a.Name] = true
		if a.Slow {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			b.t = t
			if a.Name == Million {
				b.rss = maxAccepted
			}
			p, results := begin(a)
			r := <-results
			if r.err != nil {
				t.Errorf("%v\n%s", r.err, b.ada.Tail())
			}
			t.Log(r.did)
			if a.As == Traitor {
				b.trust(p.ID, "remove")
			}
			b.stands()
			b.after(a.Name, r.did)
		})
	}
	for _, a := range attacks {
		if a.Slow {
			t.Run(a.Name, func(t *testing.T) {
				b.t = t
				r := <-waiting[a.Name]
				if r.err != nil {
					t.Errorf("%v\n%s", r.err, b.ada.Tail())
				}
				t.Log(r.did)
				b.stands()
			})
		}
	}
	b.t = t
	u, err := b.ada.Usage()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("measured: after %d attacks %.1f MiB RSS, at most %.1f", len(attacks), float64(u.RSS)/(1<<20), float64(u.Peak)/(1<<20))
}

// after checks what only one attack could have done.
func (b *bed) after(name, did string) {
	b.t.Helper()
	switch name {
	case "message/replay":
		n := 0
		for _, m := range b.state.Messages {
			if strings.HasPrefix(m.Text, "replayed ") && strings.Contains(did, m.Text) {
				n++
			}
		}
		if n != 1 {
			b.t.Errorf("the replayed message is kept %d times", n)
		}
	case "order/a message from a stranger":
		for _, m := range b.state.Messages {
			if m.Text == "let me in" {
				b.t.Error("a stranger's message is kept")
			}
		}
	}
}

// An attack that does not reach its target says so.
func TestAttacksThatReachNobody(t *testing.T) {
	nobody := Target{Addr: netip.MustParseAddrPort("127.0.0.1:9")}
	for _, a := range Attacks() {
		if strings.HasPrefix(a.Name, "numbers/") || a.Name == Million {
			continue // some of many connections may be refused; a long list takes long to make
		}
		p, err := New(nobody)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		did, err := a.Run(ctx, p)
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s on nobody: %q, %v", a.Name, did, err)
		}
	}
}
