package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/godbus/dbus/v5"

	"nigh/wpa/dbusapi"
	"nigh/wpa/nmapi"
)

// Limits are what an engine cannot do. What is limited ends with ErrLimited before the radio is used.
type Limits struct {
	ButtonOnly   bool // no PIN, in either direction
	NoOwnGroup   bool // StartGroup
	NoJoin       bool // joining, or inviting to, a group that runs already
	NoPersistent bool // groups that come back without a question
}

// limits of NetworkManager's wifi-p2p connections, up to 1.58.
var managerLimits = Limits{ButtonOnly: true, NoOwnGroup: true, NoJoin: true, NoPersistent: true}

func limited(what string) error { return fmt.Errorf("%w: %s", ErrLimited, what) }

// connect says whether a group can be formed in this way.
func (l Limits) connect(m Method) error {
	if l.ButtonOnly && m.Kind != KindPBC {
		return limited("a PIN")
	}
	return nil
}

// managerEngine has NetworkManager form groups: those it made itself it does not remove. Everything else is asked of the
// system's wpa_supplicant.
type managerEngine struct {
	manager *nmapi.Client
	gone    <-chan struct{}
}

func (e *managerEngine) dial(ctx context.Context, cfg Config) (supplicant, error) {
	manager, err := nmapi.Dial(ctx, cfg.Bus)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	e.manager = manager
	api, err := e.start(ctx, cfg)
	if err != nil {
		e.close()
		return nil, err
	}
	return api, nil
}

func (e *managerEngine) start(ctx context.Context, cfg Config) (supplicant, error) {
	var err error
	if e.gone, err = e.manager.Lost(ctx); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEngine, err)
	}
	radios, err := e.manager.Radios(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEngine, err)
	}
	device := directSide(radios, cfg.Ifname)
	if device == "" {
		return nil, fmt.Errorf("%w: NetworkManager sees no Wi-Fi Direct on %s", ErrEngine, cfg.Ifname)
	}
	c, err := dialBus(ctx, cfg.Bus)
	if err != nil {
		return nil, err
	}
	return &managedSupplicant{Client: c, manager: e.manager, device: device}, nil
}

func (e *managerEngine) lost() <-chan struct{} { return e.gone }

func (e *managerEngine) close() {
	if e.manager != nil {
		_ = e.manager.Close() // NetworkManager takes down what was bound to it
	}
}

// directSide is NetworkManager's Wi-Fi Direct device of an interface, whose name it cuts when it is long.
func directSide(radios []nmapi.Device, ifname string) dbus.ObjectPath {
	for _, r := range radios {
		if r.P2P && r.Managed && strings.HasPrefix("p2p-dev-"+ifname, r.Ifname) {
			return r.Path
		}
	}
	return ""
}

// managedSupplicant is a wpa_supplicant of which NetworkManager is asked for groups. Like that of every supplicant, its
// methods are called one at a time.
type managedSupplicant struct {
	*dbusapi.Client
	manager activator
	device  dbus.ObjectPath

	active nmapi.Active // what NetworkManager makes for us; empty = nothing
	peer   string       // with whom
	failed atomic.Bool  // the supplicant has given that up since
}

// activator is what makes groups: NetworkManager.
type activator interface {
	ActivateP2P(ctx context.Context, device dbus.ObjectPath, peer net.HardwareAddr) (nmapi.Active, error)
	Alive(ctx context.Context, active nmapi.Active) (bool, error)
	Deactivate(ctx context.Context, active nmapi.Active) error
}

// Next is the client's. NetworkManager is deaf to a negotiation that failed, and waits for a minute for what does not come.
func (s *managedSupplicant) Next() []dbusapi.Signal {
	signals := s.Client.Next()
	s.note(signals)
	return signals
}

func (s *managedSupplicant) note(signals []dbusapi.Signal) {
	for _, signal := range signals {
		switch signal.(type) {
		case dbusapi.GONegotiationFailure, dbusapi.GroupFormationFailure:
			s.failed.Store(true)
		}
	}
}

// Connect forms a group by push button, as initiator or as responder. Asked again for the same peer while NetworkManager is
// at it, it does nothing, unless that has failed: to begin anew would end what is on its way.
func (s *managedSupplicant) Connect(ctx context.Context, _ dbusapi.Path, a dbusapi.ConnectArgs) (string, error) {
	switch {
	case a.WPS != "pbc":
		return "", limited("a PIN")
	case a.Join:
		return "", limited("joining a running group")
	}
	peer := dbusapi.PeerAddress(a.Peer)
	if peer == nil {
		return "", fmt.Errorf("%w: %s is no peer", dbusapi.ErrInvalidArgs, a.Peer)
	}
	if s.active != "" && s.peer == peer.String() && !s.failed.Load() {
		if alive, err := s.manager.Alive(ctx, s.active); err != nil || alive {
			return "", managerErr(err)
		}
	}
	s.failed.Store(false)
	active, err := s.manager.ActivateP2P(ctx, s.device, peer)
	if err != nil {
		return "", managerErr(err)
	}
	s.active, s.peer = active, peer.String()
	return "00000000", nil
}

// managerErr puts the error of a call to NetworkManager into this package's terms.
func managerErr(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, nmapi.ErrDenied), errors.Is(err, nmapi.ErrAbsent):
		return fmt.Errorf("%w: %w", ErrEngine, err)
	}
	return fmt.Errorf("%w: %w", ErrFormation, err)
}

// GroupAdd is what NetworkManager cannot do.
func (s *managedSupplicant) GroupAdd(context.Context, dbusapi.Path, int, bool, dbusapi.Path) error {
	return limited("a group without another device")
}

// Invite is what NetworkManager cannot do.
func (s *managedSupplicant) Invite(context.Context, dbusapi.Path, dbusapi.Path, dbusapi.Path) error {
	return limited("an invitation")
}

// OpenWPS is of no use in a group that NetworkManager made for one peer.
func (s *managedSupplicant) OpenWPS(context.Context, dbusapi.Path, net.HardwareAddr, string) error {
	return limited("another device in its group")
}

// Cancel ends what NetworkManager is making.
func (s *managedSupplicant) Cancel(ctx context.Context, _ dbusapi.Path) error { return s.end(ctx) }

// Disconnect ends the group. NetworkManager has the supplicant end it, so what follows is the same.
func (s *managedSupplicant) Disconnect(ctx context.Context, group dbusapi.Path) error {
	if s.active == "" {
		return s.Client.Disconnect(ctx, group)
	}
	return s.end(ctx)
}

func (s *managedSupplicant) end(ctx context.Context) error {
	active := s.active
	s.active, s.peer = "", ""
	if active == "" {
		return nil
	}
	return managerErr(s.manager.Deactivate(ctx, active))
}
