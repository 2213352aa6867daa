package wpa

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"nigh/wpa/dbusapi"
)

// TestScansOfOthersEnd checks that scans of others are ended while a peer is asked and a group is made, and only then: they go
// on while its user thinks, while we search, and in a group that has settled.
func TestScansOfOthersEnd(t *testing.T) {
	aborts := func(w *world, d time.Duration) int {
		before := len(w.fake.called("AbortScan"))
		w.pass(d)
		return len(w.fake.called("AbortScan")) - before
	}
	for name, refuse := range map[string]error{"allowed": nil, "not allowed": &dbusapi.CallError{Class: dbusapi.ErrDenied}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, Config{}, func(f *fake) { f.fail["AbortScan"] = refuse }, func(w *world) {
				w.finding(time.Minute)
				if n := aborts(w, 10*time.Second); n != 0 {
					t.Errorf("%d times while we search", n)
				}
				w.waiting()
				w.pass(settle)
				calls := w.fake.called("")
				if i := slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, "Connect") }); i < 1 || !strings.HasPrefix(calls[i-1], "AbortScan") {
					t.Errorf("calls are %q", calls)
				}
				if n := aborts(w, 2*time.Second); n < 3 {
					t.Errorf("%d times in two seconds after asking", n)
				}
				w.pass(30 * time.Second)
				thinks := time.Now()
				for aborts(w, time.Second) != 0 { // asked again just now
					if time.Since(thinks) > time.Minute {
						t.Fatal("the scans never go on while the peer's user thinks")
					}
				}
				w.say(dbusapi.GONegotiationSuccess{Peer: peerPath(fakePeer), Owner: true})
				if n := aborts(w, 4*time.Second); n < 7 {
					t.Errorf("%d times in four seconds after roles were agreed", n)
				}
				w.groupUp(true, "")
				w.joined(false)
				if !w.last.done || w.last.err != nil {
					t.Fatalf("connect gave %+v", w.last)
				}
				if n := aborts(w, 4*time.Second); n < 7 {
					t.Errorf("%d times in the first four seconds of the group", n)
				}
				w.pass(groupSettle)
				if n := aborts(w, time.Minute); n != 0 {
					t.Errorf("%d times in a group that has settled", n)
				}
			})
		})
	}
}

// TestAskedAgainWhereJoiningIsImpossible has the peer begin to own the group of a try that this side does not get into, and be
// seen as an owner then. An engine that cannot join asks again; one that can joins.
func TestAskedAgainWhereJoiningIsImpossible(t *testing.T) {
	orders := map[string]func(*world){
		"the group is not built": func(w *world) {
			w.building(false)
			w.say(dbusapi.GroupFormationFailure{Path: fakeGroup}, dbusapi.InterfaceRemoved{Path: fakeGroup})
			w.pass(lostNudge.most)
		},
		"the agreement was not heard": func(w *world) {
			w.waiting()
			w.pass(firstNudge.most)
		},
		"the peer refuses while it waits for us": func(w *world) {
			w.waiting()
			w.fake.mu.Lock()
			w.fake.peers[peerPath(fakePeer)] = dbusapi.Peer{Name: "other", Address: fakePeer, GroupCapab: dbusapi.GroupOwner}
			w.fake.mu.Unlock()
			w.fails(1)
			w.pass(firstNudge.most)
		},
	}
	joins := func(w *world) (asked, joined int) {
		for _, c := range w.fake.called("Connect") {
			if strings.Contains(c, "join true") {
				joined++
			} else {
				asked++
			}
		}
		return asked, joined
	}
	for name, order := range orders {
		for _, engine := range []Engine{EngineSystem, EngineNetworkManager} {
			t.Run(name+"/"+string(engine), func(t *testing.T) {
				inWorldOf(t, engine, Config{}, nil, func(w *world) {
					order(w)
					w.near(dbusapi.GroupOwner)
					w.pass(lookLimit)
					asked, joined := joins(w)
					if can := engine == EngineSystem; can != (joined > 0) || !can && asked < 2 || w.last.done {
						t.Errorf("asked %d times, joined %d times, connect gave %+v", asked, joined, w.last)
					}
				})
			})
		}
	}
	t.Run("it owns another group", func(t *testing.T) {
		inWorldOf(t, EngineNetworkManager, Config{}, nil, func(w *world) {
			w.joining()
			if asked, joined := joins(w); asked+joined != 0 || !w.last.done || !errors.Is(w.last.err, ErrLimited) {
				t.Errorf("asked %d times, joined %d times, connect gave %+v", asked, joined, w.last)
			}
		})
	})
	t.Run("it owns another group of which we had not heard", func(t *testing.T) {
		inWorldOf(t, EngineNetworkManager, Config{}, nil, func(w *world) {
			orders["the peer refuses while it waits for us"](w)
			w.pass(rebuildLimit)
			if !w.last.done || !errors.Is(w.last.err, ErrLimited) {
				t.Errorf("connect gave %+v", w.last)
			}
		})
	})
}

// TestOwnerAwaitsTheKeys has a client begin to join the new group, of which the supplicant makes it a member at once, and
// never finish: the group is not told as formed, and the client is asked again.
func TestOwnerAwaitsTheKeys(t *testing.T) {
	begins := func(f *fake) {
		f.group.Members = []dbusapi.Path{peerPath(fakePeer)}
		f.stations = []net.HardwareAddr{fakePeer}
	}
	inWorld(t, Config{}, begins, func(w *world) {
		w.owner(false)
		w.pass(groupSettle)
		if w.last.done || w.where("formation") != "Building" {
			t.Fatalf("connect gave %+v, formation is %s", w.last, w.where("formation"))
		}
		w.say(dbusapi.GroupFormationFailure{Path: fakeGroup})
		w.finished(true)
		w.pass(lostNudge.most + lookLimit + time.Second)
		if n := len(w.fake.called("Connect")); n != 2 || w.last.done {
			t.Errorf("%d times asked, connect gave %+v", n, w.last)
		}
	})
	inWorld(t, Config{}, begins, func(w *world) {
		w.owner(false)
		w.joined(false)
		if !w.last.done || w.last.err != nil || len(w.last.group.Members) != 1 {
			t.Errorf("connect gave %+v", w.last)
		}
	})
	inWorld(t, Config{}, begins, func(w *world) { // the member's own signal was missed
		w.owner(false)
		w.say(dbusapi.StationAuthorized{Path: fakeGroup, Address: fakePeer})
		if !w.last.done || w.last.err != nil || len(w.last.group.Stations) != 1 {
			t.Errorf("connect gave %+v", w.last)
		}
	})
}
