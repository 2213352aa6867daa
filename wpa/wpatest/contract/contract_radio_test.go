//go:build radio

package contract

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"nigh/lab/radio"
	"nigh/wpa/wpatest"
)

var record = flag.Bool("record", false, "print what the supplicants and the program say to each other, as wpatest's recordings")

// TestContractOnRadio runs the suite on real supplicants. With -record it prints the recordings that the scripted ones play.
func TestContractOnRadio(t *testing.T) {
	nodes := radio.Nodes(t, 3)
	bed := Bed{Limit: 120 * time.Second}
	for i, n := range nodes {
		bed.Nodes = append(bed.Nodes, Node{Name: name(i), Bus: n.Bus, Kill: n.KillSupplicant, Start: n.StartSupplicant})
	}
	if !*record {
		Run(t, bed)
		return
	}
	r := wpatest.NewRecorder()
	ctx, cancel := context.WithTimeout(t.Context(), bed.Limit)
	defer cancel()
	air := newAir(t)
	for i, n := range nodes {
		air.listen(i, n.Bus)
		if err := r.Listen(ctx, name(i), n.Bus); err != nil {
			t.Fatal(err)
		}
	}
	bed.Part = func(name string) {
		if err := r.Part(name); err != nil {
			t.Error(err)
		}
	}
	t.Run("steps", func(t *testing.T) { Run(t, bed) })
	r.Close()
	scripts := r.Script(air.addresses(), PIN, wrongPIN)
	for _, step := range slices.Sorted(maps.Keys(scripts)) {
		var b bytes.Buffer
		if err := scripts[step].Write(&b); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			fmt.Fprintf(os.Stdout, "RECORD %s %s", step, line)
		}
	}
}

func name(i int) string { return string(rune('a' + i)) }

// air learns the P2P device addresses of the nodes from what they see of each other.
type air struct {
	t     *testing.T
	seen  chan seen
	conns []*dbus.Conn
}

type seen struct {
	name string
	addr net.HardwareAddr
}

func newAir(t *testing.T) *air {
	a := &air{t: t, seen: make(chan seen, 4096)}
	t.Cleanup(func() {
		for _, c := range a.conns {
			c.Close()
		}
	})
	return a
}

// listen collects the names and addresses of the peers that a node finds.
func (a *air) listen(_ int, bus string) {
	conn, err := dbus.Connect(bus)
	if err != nil {
		a.t.Fatal(err)
	}
	a.conns = append(a.conns, conn)
	signals := make(chan *dbus.Signal, 1024)
	conn.Signal(signals)
	if err := conn.AddMatchSignal(dbus.WithMatchMember("DeviceFoundProperties")); err != nil {
		a.t.Fatal(err)
	}
	go func() {
		for s := range signals {
			if len(s.Body) != 2 {
				continue
			}
			path, _ := s.Body[0].(dbus.ObjectPath)
			d, _ := s.Body[1].(map[string]dbus.Variant)
			name, _ := d["DeviceName"].Value().(string)
			if mac, err := hex.DecodeString(string(path[strings.LastIndexByte(string(path), '/')+1:])); err == nil {
				select {
				case a.seen <- seen{name, mac}:
				default:
				}
			}
		}
	}()
}

func (a *air) addresses() map[string]net.HardwareAddr {
	out := map[string]net.HardwareAddr{}
	for {
		select {
		case s := <-a.seen:
			if n, ok := strings.CutPrefix(s.name, "contract "); ok {
				out[n] = s.addr
			}
		default:
			a.t.Logf("addresses: %v", out)
			return out
		}
	}
}
