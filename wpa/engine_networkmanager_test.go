package wpa

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/godbus/dbus/v5"

	"nigh/wpa/dbusapi"
	"nigh/wpa/nmapi"
)

// fakeManager makes groups as NetworkManager does, and records what it is asked.
type fakeManager struct {
	calls []string
	dead  bool // what it made has ended
}

func (f *fakeManager) ActivateP2P(_ context.Context, _ dbus.ObjectPath, peer net.HardwareAddr) (nmapi.Active, error) {
	f.calls = append(f.calls, "activate "+peer.String())
	return nmapi.Active(fmt.Sprintf("/active/%d", len(f.calls))), nil
}

func (f *fakeManager) Alive(context.Context, nmapi.Active) (bool, error) { return !f.dead, nil }

func (f *fakeManager) Deactivate(_ context.Context, a nmapi.Active) error {
	f.calls = append(f.calls, "deactivate "+string(a))
	return nil
}

// TestManagerIsAskedAnew: a negotiation that failed is begun again, of which NetworkManager itself has not heard; one that is on
// its way is let alone.
func TestManagerIsAskedAnew(t *testing.T) {
	args := dbusapi.ConnectArgs{Peer: peerPath(fakePeer), WPS: "pbc"}
	activate := "activate " + fakePeer.String()
	for name, tt := range map[string]struct {
		between []dbusapi.Signal
		dead    bool
		calls   []string
	}{
		"on its way":             {[]dbusapi.Signal{dbusapi.DeviceFound{}, dbusapi.GONegotiationSuccess{}}, false, []string{activate}},
		"negotiation failed":     {[]dbusapi.Signal{dbusapi.GONegotiationFailure{Peer: args.Peer, Status: -1}}, false, []string{activate, activate}},
		"formation failed":       {[]dbusapi.Signal{dbusapi.GroupFormationFailure{}}, false, []string{activate, activate}},
		"NetworkManager gave up": {nil, true, []string{activate, activate, activate}},
	} {
		t.Run(name, func(t *testing.T) {
			m := &fakeManager{}
			s := &managedSupplicant{manager: m}
			for i := range 3 { // the third finds the second on its way
				if _, err := s.Connect(t.Context(), fakeOwner, args); err != nil {
					t.Fatal(err)
				}
				if i == 0 {
					s.note(tt.between)
					m.dead = tt.dead
				}
			}
			if !slices.Equal(m.calls, tt.calls) {
				t.Errorf("calls are %q, want %q", m.calls, tt.calls)
			}
		})
	}
}
