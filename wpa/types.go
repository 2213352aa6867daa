package wpa

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"
)

// State is the state of the supplicant and its radio.
type State string

// The states of the supplicant machine; see the table in the package documentation.
const (
	Absent   State = "absent"   // no supplicant on the bus, or it does not have our interface
	Starting State = "starting" // found; being read and configured
	NoP2P    State = "no_p2p"   // there, but it or the radio cannot do P2P
	Ready    State = "ready"    // P2P works
	Off      State = "off"      // the radio is blocked by rfkill
)

// Status is a snapshot of the radio.
type Status struct {
	State   State
	Ifname  string           // interface that owns P2P
	Engine  Engine           // whose supplicant it is
	Why     string           // why that engine, one sentence
	Limits  Limits           // what that engine cannot do
	Address net.HardwareAddr // own P2P device address; nil when it cannot be read
	Finding bool
	Groups  []Group
	Err     error  // why State is not Ready; one of the package's sentinels, wrapped
	Hint    string // one thing to do about Err, or for a better engine
}

// Peer is another P2P device as the radio sees it. Name is that device's own words and may hold anything.
type Peer struct {
	Address       net.HardwareAddr // P2P device address; it may be another one tomorrow
	Name          string
	DeviceType    [8]byte
	SignalDBm     int
	IsGO          bool   // it runs a group as its owner
	ConfigMethods uint16 // WPS configuration methods: 0x08 display, 0x80 push button, 0x100 keypad
	Vendor        [][]byte
	Seen          time.Time // carries a monotonic reading: use time.Since
}

func (p Peer) equal(q Peer) bool {
	return p.Name == q.Name && p.DeviceType == q.DeviceType && p.SignalDBm == q.SignalDBm && p.IsGO == q.IsGO &&
		p.ConfigMethods == q.ConfigMethods && slices.EqualFunc(p.Vendor, q.Vendor, slices.Equal[[]byte])
}

// Role is this device's role in a group.
type Role int

// The roles of a P2P group (Wi-Fi P2P specification 2.2).
const (
	Client Role = iota
	Owner
)

// String returns "GO" or "client".
func (r Role) String() string {
	if r == Owner {
		return "GO"
	}
	return "client"
}

// GroupID names one group of one Radio for as long as the Radio lives. It is never used again.
type GroupID string

// Group is a running P2P group.
type Group struct {
	ID               GroupID
	Ifname           string // interface of the group, such as p2p-wlan0-0
	Index            int    // its ifindex; 0 when this process cannot see the interface
	Role             Role
	SSID             string
	Passphrase       string // on the group owner only; a secret
	Frequency        int    // MHz
	BSSID            net.HardwareAddr
	InterfaceAddress net.HardwareAddr // own address on Ifname; nil when it cannot be read
	Persistent       bool
	Degraded         bool               // on a client: its owner is not heard, and has some seconds to come back
	Peer             net.HardwareAddr   // device address of the device it was formed with, nil when not known
	Members          []net.HardwareAddr // device addresses of the P2P clients; on the group owner only
	Stations         []net.HardwareAddr // interface addresses of all clients, legacy ones too; on the group owner only
	Local            netip.Addr         // client: own address from the 4-way handshake; zero when there was none
	Mask4            netip.Addr         // client: the netmask of Local
	Owner4           netip.Addr         // client: the group owner's address
}

// LogValue keeps the passphrase out of logs.
func (g Group) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", string(g.ID)), slog.String("ifname", g.Ifname), slog.String("role", g.Role.String()),
		slog.String("ssid", g.SSID), slog.Int("freq", g.Frequency), slog.Int("members", len(g.Members)))
}

// String says the same as LogValue, so that a group printed by accident does not show its passphrase.
func (g Group) String() string {
	return fmt.Sprintf("group %s on %s (%s of %q, %d MHz)", g.ID, g.Ifname, g.Role, g.SSID, g.Frequency)
}

// clone returns a copy that shares nothing with g.
func (g Group) clone() Group {
	g.Members, g.Stations = slices.Clone(g.Members), slices.Clone(g.Stations)
	return g
}

// Persistent is the profile of a persistent group. The caller stores it: the supplicant forgets.
type Persistent struct {
	SSID  string
	BSSID net.HardwareAddr // device address of the group owner
	PSK   string           // passphrase, or 64 hexadecimal digits; a secret
	Owner bool             // this device is the group owner
	Peer  net.HardwareAddr // device address of the other device
}

// LogValue keeps the PSK out of logs.
func (p Persistent) LogValue() slog.Value {
	return slog.GroupValue(slog.String("ssid", p.SSID), slog.String("bssid", p.BSSID.String()), slog.Bool("owner", p.Owner))
}

// String says the same as LogValue.
func (p Persistent) String() string {
	return fmt.Sprintf("persistent group %q (owner: %t)", p.SSID, p.Owner)
}

// same reports whether two profiles are of the same group. The address of an owner may change, also this device's own.
func (p Persistent) same(q Persistent) bool {
	return p.SSID == q.SSID && (slices.Equal(p.BSSID, q.BSSID) || p.Owner && q.Owner && p.PSK == q.PSK)
}

// equal reports whether nothing at all is different.
func (p Persistent) equal(q Persistent) bool {
	return p.SSID == q.SSID && p.PSK == q.PSK && p.Owner == q.Owner && slices.Equal(p.BSSID, q.BSSID) && slices.Equal(p.Peer, q.Peer)
}

// check refuses what is no profile.
func (p Persistent) check() error {
	if p.SSID == "" || len(p.SSID) > 32 || len(p.BSSID) != 6 || len(p.PSK) < 8 || len(p.PSK) > 64 || len(p.Peer) != 0 && len(p.Peer) != 6 {
		return fmt.Errorf("%w: %s", ErrConfig, p)
	}
	return nil
}

// MethodKind is a way of WPS to agree on a key.
type MethodKind int

// The kinds of methods.
const (
	KindPBC      MethodKind = iota // push button on both sides, nothing authenticated
	KindShowPIN                    // this device shows a PIN, the other side's user types it
	KindEnterPIN                   // this device's user typed the PIN that the other side shows
)

// Method is how two devices agree on the key of a new group. Use PBC, ShowPIN or EnterPIN.
type Method struct {
	Kind  MethodKind
	PIN   string           // eight digits; a secret
	Shown func(pin string) // called once, from another goroutine, when the PIN to show is known; may be nil
}

// PBC is the push-button method: no secret, for strangers after both users agreed.
func PBC() Method { return Method{Kind: KindPBC} }

// ShowPIN shows pin, or when it is empty a PIN that the supplicant makes, through shown (which must not block). The other
// side must call EnterPIN with it.
func ShowPIN(pin string, shown func(string)) Method {
	return Method{Kind: KindShowPIN, PIN: pin, Shown: shown}
}

// EnterPIN uses the PIN that the other side shows.
func EnterPIN(pin string) Method { return Method{Kind: KindEnterPIN, PIN: pin} }

// LogValue keeps the PIN out of logs.
func (m Method) LogValue() slog.Value { return slog.StringValue(m.wps()) }

// wps is the supplicant's word for the method.
func (m Method) wps() string {
	switch m.Kind {
	case KindShowPIN:
		return "display"
	case KindEnterPIN:
		return "keypad"
	}
	return "pbc"
}

// check refuses a method before the radio is used for it.
func (m Method) check() error {
	switch {
	case m.Kind == KindPBC && m.PIN != "":
		return fmt.Errorf("%w: the push-button method has no PIN", ErrBadMethod)
	case m.Kind == KindPBC, m.Kind == KindShowPIN && m.PIN == "":
		return nil
	case m.Kind != KindShowPIN && m.Kind != KindEnterPIN:
		return fmt.Errorf("%w: unknown kind %d", ErrBadMethod, m.Kind)
	case len(m.PIN) != 8 && len(m.PIN) != 4:
		return fmt.Errorf("%w: a PIN has four or eight digits", ErrBadMethod)
	}
	for _, c := range m.PIN {
		if c < '0' || c > '9' {
			return fmt.Errorf("%w: a PIN has only digits", ErrBadMethod)
		}
	}
	return nil
}

// GroupOptions are the options of StartGroup.
type GroupOptions struct {
	Frequency   int    // MHz; 0 = the supplicant chooses, following a Wi-Fi connection
	Prefer      int    // MHz, when Frequency is 0: a wish; when it cannot be had, the supplicant chooses
	Persistent  bool   // make a profile that clients can come back with
	SSIDPostfix string // text after DIRECT-xy, at most 23 bytes
}

// ConnectOptions are the options of Connect and Accept.
type ConnectOptions struct {
	Intent     int  // GO intent 0 (never) to 15 (always); negative = Config.Intent
	Frequency  int  // MHz; 0 = any
	Prefer     int  // MHz, when Frequency is 0: a wish; when it cannot be had, any is taken
	Persistent bool // make a profile for the next time, if the other side wants one too
	// OneTime says that the PIN is good for one run of WPS: a group that could not be built is not tried again with it,
	// because each run tells an impostor half of it (Wi-Fi Simple Configuration 2.0.8, 7.4).
	OneTime bool
	// NewGroup says that the method is for a new group and would not do for one that the peer owns: Connect returns ErrMethod
	// when it turns out to own one by now.
	NewGroup bool
}

// RequestKind says what a peer asks for.
type RequestKind int

// The kinds of requests.
const (
	Negotiation       RequestKind = iota // GO negotiation; PasswordID says with which method
	ProvisionPBC                         // the peer pressed its button
	ProvisionShowPIN                     // the peer wants us to show PIN to our user
	ProvisionEnterPIN                    // the peer shows a PIN that our user shall type
	Invitation                           // the peer invites us to its group
)

// WPS device password IDs that a Negotiation request comes with (Wi-Fi Simple Configuration 2.0.8, table 34).
const (
	PasswordUserSpecified      = 1 // the peer's user types a PIN that we show
	PasswordPushButton         = 4
	PasswordRegistrarSpecified = 5 // the peer shows a PIN, our user types it
)

// Request is a peer that wants a group with us. Answer with Accept or Reject; the peer waits about two minutes.
type Request struct {
	Peer       Peer
	Kind       RequestKind
	PasswordID uint16
	PIN        string           // ProvisionShowPIN: what to show; a secret
	Group      GroupID          // our running group that the peer wants to join; empty for a new one
	Owner      net.HardwareAddr // Invitation: device address of the group owner

	runs      bool // Invitation: that group is running
	frequency int  // Invitation: MHz of that group, 0 = not told
}

// LogValue keeps the PIN out of logs.
func (r Request) LogValue() slog.Value {
	return slog.GroupValue(slog.String("peer", r.Peer.Address.String()), slog.Int("kind", int(r.Kind)),
		slog.Int("password_id", int(r.PasswordID)), slog.String("group", string(r.Group)))
}

// Reason is why a group is gone.
type Reason string

// The reasons of GroupGone.
const (
	ReasonLeft                   Reason = "left"                                 // Leave was called, or Run ended
	ReasonPeerLeft               Reason = "ended by the other side"              // the group owner said goodbye
	ReasonPeerVanished           Reason = "the other side vanished"              // no beacon for 12 s
	ReasonIdle                   Reason = "no client for some time"              // Config.GroupIdle
	ReasonEnded                  Reason = "ended by the radio"                   // the driver, the supplicant or another program
	ReasonFormationFailed        Reason = "formation failed"                     // the client never came
	ReasonKilled                 Reason = "removed by another program"           // somebody removed its interface
	ReasonKilledByNetworkManager Reason = "removed by NetworkManager"            // see ErrKilledByNetworkManager
	ReasonSupplicantGone         Reason = "wpa_supplicant stopped or crashed"    // all groups go with it
	ReasonRadioOff               Reason = "the radio was switched off"           // rfkill
	ReasonChannel                Reason = "the Wi-Fi connection changed channel" // and the radio can be on one only
)

// Event is something that happened: one of the types below.
type Event interface{ event() }

// The events of Radio.Events.
type (
	// PeerSeen says that a device is near that was not before.
	PeerSeen struct{ Peer Peer }
	// PeerChanged says that the name, signal or role of a peer changed.
	PeerChanged struct{ Peer Peer }
	// PeerLost says that a peer was not heard for a minute.
	PeerLost struct{ Address net.HardwareAddr }
	// RequestReceived says that a peer wants a group with us; answer with Accept or Reject.
	RequestReceived struct{ Request Request }
	// GroupUp says that a group is up here; on a group owner its client may still be on the way.
	GroupUp struct{ Group Group }
	// GroupChanged says that members or stations came or went, that the group moved to another channel, or that its owner is
	// not heard any more, or again.
	GroupChanged struct{ Group Group }
	// GroupGone says that a group ended. It comes exactly once after GroupUp.
	GroupGone struct {
		Group  Group
		Reason Reason
	}
	// GroupKilled says that NetworkManager removed a group. It comes once for each, also for one that was not up yet.
	GroupKilled struct{ Ifname string }
	// PersistentSaved carries a profile to store and to give to Config.Groups the next time.
	PersistentSaved struct{ Persistent Persistent }
	// PersistentRemoved says that a stored profile is of no use any more.
	PersistentRemoved struct{ Persistent Persistent }
	// ServicesFound carries what a device answered to a query of DiscoverServices; no records when it has none of that kind. A
	// device that has several services tells them in one event or in several.
	ServicesFound struct {
		Peer    net.HardwareAddr
		Query   QueryID
		Records []ServiceRecord
	}
	// StateChanged carries the status whenever it is another one.
	StateChanged struct{ Status Status }
)

func (PeerSeen) event()          {}
func (PeerChanged) event()       {}
func (PeerLost) event()          {}
func (RequestReceived) event()   {}
func (GroupUp) event()           {}
func (GroupChanged) event()      {}
func (GroupGone) event()         {}
func (GroupKilled) event()       {}
func (PersistentSaved) event()   {}
func (PersistentRemoved) event() {}
func (ServicesFound) event()     {}
func (StateChanged) event()      {}
