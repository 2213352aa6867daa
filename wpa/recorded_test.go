package wpa

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/wpa/dbusapi"
	"nigh/wpa/wpatest"
)

// recording is what a real supplicant said while two devices formed a group and ended it.
type recording struct {
	step, node, peer string
	role             Role
}

var formed = []recording{
	{"owner", "a", "b", Owner}, {"owner", "b", "a", Client}, {"client", "a", "b", Client}, {"client", "b", "a", Owner},
	{"pin", "a", "b", Owner}, {"pin", "b", "a", Client}, {"persistent", "a", "b", Owner}, {"persistent", "b", "a", Client},
}

// signals are the signals of the recording from the agreement on roles that came to a group to the end of that group.
func (r recording) signals(t *testing.T) []wpatest.Line {
	t.Helper()
	script, err := wpatest.Recording(r.step)
	if err != nil {
		t.Fatal(err)
	}
	var out []wpatest.Line
	for _, l := range script {
		if l.Kind != wpatest.Signal || l.Node != r.node {
			continue
		}
		if l.Member == "P2PDevice.GONegotiationSuccess" {
			out = []wpatest.Line{l}
		} else if len(out) > 0 {
			out = append(out, l)
		}
	}
	if len(out) < 5 {
		t.Fatalf("%s has %d signals of %s", r.step, len(out), r.node)
	}
	return out
}

// on runs f in a world that has the recording's peer and group, with a Connect to the peer on its way.
func (r recording) on(t *testing.T, f func(*world, *outcome)) {
	t.Helper()
	peer := wpatest.Address(r.peer)
	inWorld(t, Config{GroupIdle: -1}, func(f *fake) {
		f.peers[peerPath(peer)] = dbusapi.Peer{Name: "other", Address: peer}
	}, func(w *world) {
		w.say(dbusapi.DeviceFound{Path: peerPath(peer), Peer: dbusapi.Peer{Name: "other", Address: peer}})
		f(w, w.forming(func(ctx context.Context) (Group, error) {
			return w.Connect(ctx, peer, PBC(), ConnectOptions{Intent: 7, Persistent: true})
		}))
	})
}

// TestRecordedSignals has the machine on the fake hear what a real supplicant said, and holds what the fake has the machine hear
// in the other tests to it: the same signals in the same order.
func TestRecordedSignals(t *testing.T) {
	for _, r := range formed {
		t.Run(r.step+" "+r.node, func(t *testing.T) {
			var order []string
			r.on(t, func(w *world, out *outcome) {
				for _, l := range r.signals(t) {
					if l.Member == "P2PDevice.GroupFinished" && (!out.done || out.err != nil || out.group.Role != r.role) {
						t.Errorf("formation gave %+v", out)
					}
					s := dbusapi.Decode(l.Signal())
					switch s.(type) {
					case nil:
						continue
					case dbusapi.GONegotiationSuccess, dbusapi.InterfaceAdded, dbusapi.GroupStarted, dbusapi.MemberJoined, dbusapi.GroupFinished, dbusapi.InterfaceRemoved:
						order = append(order, strings.TrimPrefix(fmt.Sprintf("%T", s), "dbusapi."))
					}
					w.say(s)
				}
				gone := slices.DeleteFunc(w.events(), func(e Event) bool { _, ok := e.(GroupGone); return !ok })
				if len(gone) != 1 || len(w.Status().Groups) != 0 {
					t.Errorf("the group was gone %d times, groups are %v", len(gone), w.Status().Groups)
				}
			})
			// What world.owner, world.client, world.joined and world.finished say.
			want := []string{"GONegotiationSuccess", "InterfaceAdded", "GroupStarted"}
			if r.role == Owner {
				want = append(want, "MemberJoined")
			}
			if want = append(want, "GroupFinished", "InterfaceRemoved"); r.step == "client" && r.role == Owner {
				want = slices.Insert(want, 4, "MemberJoined") // it leaves, before the group ends
			}
			if !slices.Equal(order, want) {
				t.Errorf("the order is %q, the tests have %q", order, want)
			}
		})
	}
}

// wrong are values that stand for every kind of D-Bus type, and for too much of some.
var wrong = []any{
	"text", strings.Repeat("x", 100000), int32(-5), uint32(4000000000), uint64(1 << 63), true, byte(9), []byte{1, 2, 3}, make([]byte, 100000), dbus.ObjectPath("/"),
	dbus.ObjectPath("/" + strings.Repeat("x", 5000)), []string{"a"}, []dbus.ObjectPath{"/a", "/"}, [][]byte{nil, {1}}, map[string]dbus.Variant{"a": dbus.MakeVariant("b")},
	dbus.MakeVariant(dbus.MakeVariant("inner")), map[string]dbus.Variant{},
}

// mangled are the arguments of a signal with one of them, or one value in a dictionary among them, replaced or left out.
func mangled(args []any) [][]any {
	var out [][]any
	for i := range args {
		for _, x := range wrong {
			c := slices.Clone(args)
			c[i] = x
			out = append(out, c)
		}
		out = append(out, args[:i])
		d, _ := args[i].(map[string]dbus.Variant)
		for k := range d {
			for _, x := range wrong {
				c, e := slices.Clone(args), maps.Clone(d)
				e[k] = dbus.MakeVariant(x)
				c[i] = e
				out = append(out, c)
			}
			c, e := slices.Clone(args), maps.Clone(d)
			delete(e, k)
			c[i] = e
			out = append(out, c)
		}
	}
	return out
}

// TestWrongTypes replaces every argument of every signal of a formation, and every value in its dictionaries, by values of every
// other type: nothing panics, the formation ends by its deadlines with a group or an error that can be told apart, and nothing
// goes on afterwards.
func TestWrongTypes(t *testing.T) {
	tried := 0
	for _, r := range formed[:3] {
		lines := r.signals(t)
		for at, l := range lines {
			if dbusapi.Decode(l.Signal()) == nil || testing.Short() && at%3 != 0 {
				continue
			}
			seen := map[string]bool{}
			for _, args := range mangled(l.Args) {
				changed := l
				changed.Args = args
				bad := dbusapi.Decode(changed.Signal())
				if key := fmt.Sprintf("%+v", bad); seen[key] {
					continue // to the machine it is the same
				} else {
					seen[key] = true
				}
				tried++
				r.on(t, func(w *world, out *outcome) {
					for i, x := range lines {
						s := dbusapi.Decode(x.Signal())
						if i == at {
							s = bad
						}
						if s != nil {
							w.say(s)
						}
					}
					w.pass(10 * time.Minute)
					if !out.done || out.err != nil && !typed(out.err) || out.err == nil && out.group.SSID == "" {
						t.Errorf("%s of %+v: formation gave %+v", l.Member, bad, out)
					}
					if w.where("formation") != "Idle" {
						t.Errorf("%s of %+v: the formation goes on", l.Member, bad)
					}
				})
			}
		}
	}
	t.Logf("%d different signals", tried)
}

// TestWrongProperties gives every property that is read a value of every wrong type: the radio becomes ready or says what is
// wrong, and is ready when the values are right again.
func TestWrongProperties(t *testing.T) {
	for _, property := range []string{"Capabilities", "Interfaces", "Ifname", "Role", "P2PDeviceConfig", "ConfigMethods", "PersistentGroups", "Peers"} {
		t.Run(property, func(t *testing.T) {
			t.Parallel()
			air := wpatest.NewAir(t, 1)
			s := air.Nodes[0]
			l := runLive(t, s.Bus.Address, "a")
			for _, x := range wrong {
				l.ready()
				if err := s.Kill(); err != nil {
					t.Fatal(err)
				}
				l.until("loss", func() bool { return l.Status().State == Absent })
				f := wpatest.Fault{Method: "Properties.Get", Property: property}.Mangle(func([]any) []any { return []any{dbus.MakeVariant(x)} })
				s.Inject(f)
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				l.until("a state", func() bool {
					st := l.Status()
					return s.Hits(f) > 0 && (st.State == Ready || st.Err != nil && typed(st.Err))
				})
				s.Mend()
			}
			l.ready()
		})
	}
	t.Run("group", func(t *testing.T) {
		p := newPair(t)
		for _, iface := range []string{"fi.w1.wpa_supplicant1.Group", "fi.w1.wpa_supplicant1.Peer"} {
			for _, x := range wrong {
				p.sa.Inject(wpatest.Fault{Method: "Properties.GetAll", Property: iface}.Mangle(func(body []any) []any {
					d, _ := body[0].(map[string]dbus.Variant)
					d = maps.Clone(d)
					for k := range d {
						d[k] = dbus.MakeVariant(x)
					}
					return []any{d}
				}))
				g, err := p.a.StartGroup(t.Context(), GroupOptions{})
				if err != nil && !typed(err) {
					t.Errorf("start group: %v", err)
				}
				if err == nil {
					if err := p.a.Leave(t.Context(), g.ID); err != nil && !errors.Is(err, ErrNoGroup) {
						t.Errorf("leave: %v", err)
					}
				}
				p.sa.Mend()
			}
		}
		p.leave(t)
		p.works(t)
	})
}
