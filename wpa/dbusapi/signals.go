package dbusapi

import (
	"math"
	"net"
	"net/netip"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Signal is one decoded signal: one of the struct types of this file.
type Signal interface{ signal() }

// Signals of the bus and of the connection.
type (
	// OwnerChanged says that the name fi.w1.wpa_supplicant1 has a new owner, or none when Owner is empty.
	OwnerChanged struct{ Owner string }
	// Disconnected says that the connection to the bus is closed. It is the last signal.
	Disconnected struct{}
	// Overflow says that signals were dropped because nobody took them; read the properties again.
	Overflow struct{}
)

// Signals of the root object and of interfaces.
type (
	// InterfaceAdded says that the supplicant has a new interface, such as that of a group.
	InterfaceAdded struct {
		Path   Path
		Ifname string
	}
	// InterfaceRemoved says that an interface is gone. Another program can remove a group's so, without GroupFinished.
	InterfaceRemoved struct{ Path Path }
	// InterfaceChanged carries State and DisconnectReason as far as they changed ("" and 0 when not).
	InterfaceChanged struct {
		Path             Path
		State            string
		DisconnectReason int // negative = decided here, -4 = the other side fell silent
	}
	// StationAuthorized says that a station of our group finished its 4-way handshake, or, if Gone, that it is no longer
	// authorized. Address is the station's interface address.
	StationAuthorized struct {
		Path    Path
		Address net.HardwareAddr
		Gone    bool
	}
)

// StatusUnknown stands for a status that was not told. No status of the specification has this number.
const StatusUnknown = 256

// Signals of P2P. Path is the object that emitted the signal, where it matters.
type (
	// DeviceFound says that a peer is seen, or seen again.
	DeviceFound struct {
		Path Path
		Peer Peer
	}
	// DeviceLost says that a peer expired and its path is dead.
	DeviceLost struct{ Path Path }
	// FindStopped says that the search ended.
	FindStopped struct{}
	// GONegotiationRequest says that a peer asks for GO negotiation and we had not called Connect. It may repeat.
	GONegotiationRequest struct {
		Peer       Path
		PasswordID uint16 // 1 = the peer types a PIN that we show, 4 = push button, 5 = the peer shows, we type
		Intent     byte
	}
	// GONegotiationSuccess says that the roles are agreed; the group is not there yet.
	GONegotiationSuccess struct {
		Peer      Path
		Owner     bool // we are the group owner
		SSID      string
		Frequency int
		PeerIface net.HardwareAddr
	}
	// GONegotiationFailure says why no roles were agreed: Status is the P2P status code, -1 for a local timeout,
	// StatusUnknown when it says none that is a failure.
	GONegotiationFailure struct {
		Peer   Path
		Status int
	}
	// GroupStarted says that a group is up here. The addresses are set on a client to which the owner gave one in the
	// 4-way handshake.
	GroupStarted struct {
		Interface           Path
		Group               Path
		Owner               bool
		Persistent          bool
		Local, Mask, Owner4 netip.Addr
	}
	// GroupFinished says that a group ended; no reason is given.
	GroupFinished struct {
		Interface Path
		Owner     bool
	}
	// GroupFormationFailure says that a group that was being formed did not come up. Path is the group's interface if it
	// existed, else the owner of P2P.
	GroupFormationFailure struct {
		Path   Path
		Reason string // "" or "FREQ_CONFLICT" before 2.12
	}
	// WPSFailed says that WPS did not hand the key to a client: ConfigError 18 = wrong PIN, 12 = push-button overlap.
	WPSFailed struct {
		Path        Path
		ConfigError int
	}
	// Provision is a provision discovery request from a peer, or (if Response) its answer to ours. Kind is
	// "pbc", "display" (we show PIN) or "keypad" (we type the PIN that the peer shows).
	Provision struct {
		Peer     Path
		Kind     string
		PIN      string
		Response bool
	}
	// ProvisionFailure says why provision discovery failed: Status 1 timeout, 2 rejected, 3 timeout while joining,
	// 4 information unavailable.
	ProvisionFailure struct {
		Peer   Path
		Status int
	}
	// InvitationResult is the answer to our Invite: Status 0 accepted, 1 its user is being asked, 8 the peer forgot the group.
	InvitationResult struct {
		Status int
		BSSID  net.HardwareAddr
	}
	// InvitationReceived says that a peer invites us and the supplicant did not accept by itself.
	InvitationReceived struct {
		Source       net.HardwareAddr
		OwnerAddress net.HardwareAddr // device address of the group owner
		BSSID        net.HardwareAddr // nil when no group runs yet
		PersistentID int              // -1 when not known: the supplicant leaves out 0
		Frequency    int
	}
	// PersistentRemoved says that the profile of a persistent group is gone.
	PersistentRemoved struct{ Path Path }
	// MemberJoined says that a P2P client joined our group, or (if Left) left it.
	MemberJoined struct {
		Group Path
		Peer  Path
		Left  bool
	}
)

func (OwnerChanged) signal()          {}
func (Disconnected) signal()          {}
func (Overflow) signal()              {}
func (InterfaceAdded) signal()        {}
func (InterfaceRemoved) signal()      {}
func (InterfaceChanged) signal()      {}
func (StationAuthorized) signal()     {}
func (DeviceFound) signal()           {}
func (DeviceLost) signal()            {}
func (FindStopped) signal()           {}
func (GONegotiationRequest) signal()  {}
func (GONegotiationSuccess) signal()  {}
func (GONegotiationFailure) signal()  {}
func (GroupStarted) signal()          {}
func (GroupFinished) signal()         {}
func (GroupFormationFailure) signal() {}
func (WPSFailed) signal()             {}
func (Provision) signal()             {}
func (ProvisionFailure) signal()      {}
func (InvitationResult) signal()      {}
func (InvitationReceived) signal()    {}
func (PersistentRemoved) signal()     {}
func (MemberJoined) signal()          {}

// Decode turns a D-Bus signal of the supplicant, or NameOwnerChanged of the bus, into a Signal. It returns nil for
// signals that package wpa has no use for and for those without the arguments they need.
func Decode(s *dbus.Signal) Signal {
	args := arguments(s.Body)
	switch s.Name {
	case "org.freedesktop.DBus.NameOwnerChanged":
		if args.text(0) == Name {
			return OwnerChanged{Owner: args.text(2)}
		}
	case Name + ".InterfaceAdded":
		return orNil(args.path(0), InterfaceAdded{args.path(0), ifnameOf(args.dict(1)["Ifname"].Value())})
	case Name + ".InterfaceRemoved":
		return orNil(args.path(0), InterfaceRemoved{args.path(0)})
	case ifaceInterface + ".PropertiesChanged":
		d := args.dict(0)
		c := InterfaceChanged{s.Path, d.text("State"), d.number("DisconnectReason")}
		if c.State != "" || c.DisconnectReason != 0 {
			return c
		}
	case ifaceInterface + ".StaAuthorized", ifaceInterface + ".StaDeauthorized":
		if mac, err := net.ParseMAC(args.text(0)); err == nil && len(mac) == 6 {
			return StationAuthorized{s.Path, mac, s.Name == ifaceInterface+".StaDeauthorized"}
		}
	case ifaceGroup + ".PeerJoined", ifaceGroup + ".PeerDisconnected":
		return orNil(args.path(0), MemberJoined{s.Path, args.path(0), s.Name == ifaceGroup+".PeerDisconnected"})
	default:
		return decodeP2P(s, args)
	}
	return nil
}

func decodeP2P(s *dbus.Signal, args arguments) Signal {
	if len(s.Name) <= len(ifaceP2P)+1 || s.Name[:len(ifaceP2P)+1] != ifaceP2P+"." {
		return nil
	}
	path := args.path(0)
	switch s.Name[len(ifaceP2P)+1:] {
	case "DeviceFoundProperties":
		return orNil(path, DeviceFound{path, peerOf(args.dict(1))})
	case "DeviceLost":
		return orNil(path, DeviceLost{path})
	case "FindStopped":
		return FindStopped{}
	case "GONegotiationRequest":
		id, told := args.at(1).(uint16)
		if !told { // with no method known there is nothing to answer
			return nil
		}
		intent, _ := args.at(2).(byte)
		return orNil(path, GONegotiationRequest{path, id, intent})
	case "GONegotiationSuccess":
		d := args.dict(0)
		return orNil(d.path("peer_object"), GONegotiationSuccess{
			Peer:      d.path("peer_object"),
			Owner:     d.role("role_go") == "GO",
			SSID:      d.ssid("ssid"),
			Frequency: d.frequency("frequency"),
			PeerIface: d.mac("peer_interface_addr"),
		})
	case "GONegotiationFailure":
		d := args.dict(0)
		status, told := d.status("status")
		if !told || status == 0 || status == 12 { // which are successes
			status = StatusUnknown
		}
		return orNil(d.path("peer_object"), GONegotiationFailure{d.path("peer_object"), status})
	case "GroupStarted":
		d := args.dict(0)
		if role := d.role("role"); role != "GO" && role != "client" {
			return nil
		}
		return orNil(d.path("interface_object"), GroupStarted{
			Interface:  d.path("interface_object"),
			Group:      d.path("group_object"),
			Owner:      d.role("role") == "GO",
			Persistent: d.flag("persistent"),
			Local:      d.ip4("IpAddr"),
			Mask:       d.ip4("IpAddrMask"),
			Owner4:     d.ip4("IpAddrGo"),
		})
	case "GroupFinished":
		d := args.dict(0)
		return orNil(d.path("interface_object"), GroupFinished{d.path("interface_object"), d.role("role") == "GO"})
	case "GroupFormationFailure":
		return GroupFormationFailure{s.Path, args.text(0)}
	case "WpsFailed":
		return WPSFailed{s.Path, args.dict(1).within("config_error", 0, math.MaxInt16)}
	case "ProvisionDiscoveryPBCRequest":
		return orNil(path, Provision{Peer: path, Kind: "pbc"})
	case "ProvisionDiscoveryPBCResponse":
		return orNil(path, Provision{Peer: path, Kind: "pbc", Response: true})
	case "ProvisionDiscoveryRequestDisplayPin":
		return orNil(path, Provision{Peer: path, Kind: "display", PIN: args.pin(1)})
	case "ProvisionDiscoveryResponseDisplayPin":
		return orNil(path, Provision{Peer: path, Kind: "display", PIN: args.pin(1), Response: true})
	case "ProvisionDiscoveryRequestEnterPin":
		return orNil(path, Provision{Peer: path, Kind: "keypad"})
	case "ProvisionDiscoveryResponseEnterPin":
		return orNil(path, Provision{Peer: path, Kind: "keypad", Response: true})
	case "ProvisionDiscoveryFailure":
		status, _ := args.at(1).(int32)
		return orNil(path, ProvisionFailure{path, int(status)})
	case "InvitationResult":
		d := args.dict(0)
		status, told := d.status("status")
		if !told { // it is not known what the peer wants: the deadline decides
			return nil
		}
		return InvitationResult{status, d.mac("BSSID")}
	case "InvitationReceived":
		d := args.dict(0)
		r := InvitationReceived{
			Source:       d.mac("sa"),
			OwnerAddress: d.mac("go_dev_addr"),
			BSSID:        d.mac("bssid"),
			PersistentID: -1,
			Frequency:    d.frequency("op_freq"),
		}
		if id, told := d.status("persistent_id"); told {
			r.PersistentID = id
		}
		if r.Source == nil {
			return nil
		}
		return r
	case "ServiceDiscoveryResponse":
		return decodeServices(args.dict(0))
	case "PersistentGroupRemoved":
		return orNil(path, PersistentRemoved{path})
	}
	return nil
}

// orNil drops a signal whose object path is missing.
func orNil(p Path, s Signal) Signal {
	if None(p) {
		return nil
	}
	return s
}

// arguments are the arguments of a signal; those that are missing or of another type read as zero.
type arguments []any

func (a arguments) at(i int) any {
	if i < len(a) {
		return a[i]
	}
	return nil
}

func (a arguments) text(i int) string {
	s, _ := a.at(i).(string)
	return cut(s)
}

func (a arguments) path(i int) Path { return pathOf(a.at(i)) }

// pin is eight, or four, digits.
func (a arguments) pin(i int) string {
	s := a.text(i)
	if len(s) != 8 && len(s) != 4 || strings.Trim(s, "0123456789") != "" {
		return ""
	}
	return s
}

func (a arguments) dict(i int) dict { return dictOf(a.at(i)) }
