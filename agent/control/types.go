package control

import "time"

// Version is the version of the local API that this package speaks. A server
// answers it in the Nigh-Api header; it grows only when a field changes meaning.
const Version = 1

// Status is what `nigh status` shows: the agent, its radio, groups and links.
type Status struct {
	ID      string    `json:"id"`    // own DeviceID, in full
	Short   string    `json:"short"` // its first eight characters
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Agent   AgentInfo `json:"agent"`
	Radio   Radio     `json:"radio"`
	Groups  []Group   `json:"groups"`
	Links   []Link    `json:"links"`
	Limits  Limits    `json:"limits"`
	Notices []string  `json:"notices,omitempty"` // things the person should know, one sentence each
	// FirstRun says that nobody was asked yet what this device is called and where files go: a face asks, once.
	FirstRun  bool   `json:"first_run,omitempty"`
	NameFixed string `json:"name_fixed,omitempty"` // the FILE:LINE of the policy that says the name; "" = the person chooses it
}

// AgentInfo says which process answers and how it was started.
type AgentInfo struct {
	PID    int    `json:"pid"`
	Uptime int64  `json:"uptime_s"` // seconds, monotonic
	Mode   string `json:"mode"`     // "service", "foreground" or "embedded"
	Port   int    `json:"port"`     // TCP port of the sessions
	Inbox  string `json:"inbox"`    // folder that received files go to
	State  string `json:"state"`    // state folder
	Accept string `json:"accept"`   // "ask", "trusted" or "all"
	// Visibility is "everyone", "trusted" or "hidden": who can tell who this device is.
	Visibility string  `json:"visibility,omitempty"`
	Free       int64   `json:"free"` // bytes free for the inbox
	Sandbox    Sandbox `json:"sandbox"`
	// Quiet says that the user wants no notifications on a desktop, whoever shows them.
	Quiet bool `json:"quiet,omitempty"`
	// Goroutines is how many the process runs: a number that only grows is a fault.
	Goroutines int `json:"goroutines"`
}

// Sandbox says whether the agent keeps itself from files that are none of its business.
type Sandbox struct {
	State string `json:"state"`         // "landlock" or "off"
	Why   string `json:"why,omitempty"` // of "off": why, one sentence
}

// Radio is the state of Wi-Fi Direct on this device.
type Radio struct {
	State   string `json:"state"`         // "absent", "starting", "no_p2p", "ready", "off", "disabled"
	Ifname  string `json:"ifname"`        // the parent interface, such as wlan0
	Engine  string `json:"engine"`        // "system", "private" or "networkmanager": who forms groups; "" without a radio
	Why     string `json:"why,omitempty"` // why that engine, one sentence
	Address string `json:"address,omitempty"`
	Finding bool   `json:"finding"`
	// Intent is the GO intent, 0 to 15, that the next group is formed with: how much
	// this device wants to be group owner; IntentWhy says why.
	Intent    int    `json:"intent"`
	IntentWhy string `json:"intent_why,omitempty"`
	Hint      string `json:"hint,omitempty"` // one thing to do when the state is not "ready"
}

// Group is a Wi-Fi Direct group that this device is a member of.
type Group struct {
	Ifname     string   `json:"ifname"`
	Role       string   `json:"role"` // "GO" or "client"
	SSID       string   `json:"ssid"`
	Frequency  int      `json:"frequency"` // MHz, 0 when not known
	Clients    int      `json:"clients"`   // members beside the group owner, as far as this role can see
	Address    string   `json:"address"`   // own IPv4 address with prefix, "" when none
	LinkLocal  string   `json:"link_local"`
	Persistent bool     `json:"persistent"`
	Members    []string `json:"members,omitempty"` // P2P device addresses (GO only)
	// Stations are all devices connected to a group that this device owns, also
	// those that know nothing of Wi-Fi Direct.
	Stations []Station `json:"stations,omitempty"`
	Uptime   int64     `json:"uptime_s"`
	// Reconnecting says that the group owner is not heard, and has some seconds to come back.
	Reconnecting bool `json:"reconnecting,omitempty"`
	// Passphrase lets a plain Wi-Fi device join; only a group owner knows it.
	// It is sent only by GET /v1/groups, never in events or logs.
	Passphrase string `json:"passphrase,omitempty"`
}

// Station is a device connected to a group of ours.
type Station struct {
	Address string `json:"address"`        // of its interface
	IPv4    string `json:"ipv4,omitempty"` // that our DHCP server gave it; nigh devices mostly need none
	Name    string `json:"name,omitempty"` // of the nigh device that it proved to be, escaped
}

// Link is a network link and whether nigh uses it.
type Link struct {
	Ifname    string   `json:"ifname"`
	Kind      string   `json:"kind"` // "ethernet", "wifi", "direct", ...
	Up        bool     `json:"up"`
	Usable    bool     `json:"usable"`
	Why       string   `json:"why,omitempty"` // why it is not used
	Addresses []string `json:"addresses"`     // with prefix length
	// Inbound is what the last device found that tried to connect to this one over the
	// link: "open", "refused", "rejected" or "silent"; "" when none did.
	Inbound string `json:"inbound,omitempty"`
}

// Limits are the bounds in force, for people who wonder why something waits.
type Limits struct {
	Transfers int   `json:"transfers"` // running at once
	Peers     int   `json:"peers"`     // devices in the table
	MinFree   int64 `json:"min_free"`  // bytes kept free on the disk
}

// Peer is another device, near or known. Strings that came from it are already
// escaped for a screen.
type Peer struct {
	ID         string  `json:"id"`    // "" for a Wi-Fi Direct device whose identity is not known yet
	Short      string  `json:"short"` // likewise
	Name       string  `json:"name"`
	Trust      string  `json:"trust"`               // "new", "trusted", "blocked"
	Paths      []Path  `json:"paths"`               // best first; empty when away
	State      string  `json:"state"`               // "ready", "visible", "connecting", "away"
	LastSeen   string  `json:"last_seen,omitempty"` // RFC 3339, by this device's clock; "" when never
	Age        float64 `json:"last_seen_s"`         // seconds since, -1 when never
	AutoAccept bool    `json:"auto_accept,omitempty"`
	Warning    string  `json:"warning,omitempty"` // it has the name of a known device, and another key
	Error      string  `json:"error,omitempty"`   // why it is not ready, one sentence
	Hint       string  `json:"hint,omitempty"`
}

// Path is one way to reach a peer.
type Path struct {
	Kind    string  `json:"kind"` // "direct", "lan", "manual"
	Ifname  string  `json:"ifname"`
	Address string  `json:"address"` // HOST:PORT, or the P2P device address before a group exists
	RTT     float64 `json:"rtt_ms,omitempty"`
	Signal  int     `json:"signal_dbm,omitempty"`
	Active  bool    `json:"active,omitempty"` // the path that connections use now
}

// Transfer is one offer with all its files, to or from one device.
type Transfer struct {
	ID          string           `json:"id"`
	Direction   string           `json:"direction"` // "send" or "receive"
	Peer        string           `json:"peer"`      // DeviceID
	PeerName    string           `json:"peer_name"`
	Name        string           `json:"name"` // what people call it: the one file or folder, or "3 files"
	Files       int              `json:"files"`
	Dirs        int              `json:"dirs"`
	Skipped     int              `json:"skipped,omitempty"` // links and special files that are not sent
	BytesTotal  int64            `json:"bytes_total"`
	BytesDone   int64            `json:"bytes_done"`
	BytesMoved  int64            `json:"bytes_moved"` // payload bytes over the wire, with what was sent twice
	Rate        float64          `json:"rate"`        // bytes a second, 5 s half-life
	ETA         float64          `json:"eta_s"`       // seconds, -1 when not known
	State       string           `json:"state"`       // waiting queued running paused verifying done refused failed
	Error       string           `json:"error,omitempty"`
	ErrorCode   string           `json:"error_code,omitempty"`
	Hint        string           `json:"hint,omitempty"`
	Sources     int              `json:"sources"`                // devices that bytes come from now
	Holders     []TransferHolder `json:"holders,omitempty"`      // what came from which device, of what is received
	FilesFailed int              `json:"files_failed,omitempty"` // while others were transferred
	Outbox      bool             `json:"outbox,omitempty"`       // the device is away and has not been offered it yet
	Path        string           `json:"path"`                   // where it lies or will lie; what is sent
	PathKind    string           `json:"path_kind,omitempty"`    // "direct", "lan", "manual": how the bytes travel
	Names       []string         `json:"names,omitempty"`        // up to 64 top-level names
	Dotfiles    bool             `json:"dotfiles,omitempty"`
	Executables bool             `json:"executables,omitempty"`
	Age         float64          `json:"age_s"`           // since it was made or offered
	Elapsed     float64          `json:"elapsed_s"`       // time spent running
	Ended       string           `json:"ended,omitempty"` // RFC 3339
}

// TransferHolder is a device that content of a transfer came from.
type TransferHolder struct {
	Device  Member `json:"device"`
	Bytes   int64  `json:"bytes"`             // verified
	Active  bool   `json:"active,omitempty"`  // it is being asked
	Dropped string `json:"dropped,omitempty"` // why it is asked for nothing any more: "verify" (wrong bytes) or "protocol"
}

// InboxItem is a question that waits for a person: an offer of files, a device
// that wants to form a Wi-Fi Direct group, or a code to be compared for pairing.
type InboxItem struct {
	ID       string    `json:"id"`
	Kind     string    `json:"kind"` // "transfer", "group" or "pair"
	Peer     string    `json:"peer"` // DeviceID, "" when not proved
	PeerName string    `json:"peer_name"`
	Trust    string    `json:"trust"`
	Expires  float64   `json:"expires_s"` // seconds until it is refused by itself, -1 never
	Transfer *Transfer `json:"transfer,omitempty"`
	Method   string    `json:"method,omitempty"`   // group: "pbc", "show_pin", "enter_pin"
	PIN      string    `json:"pin,omitempty"`      // group: the PIN to show
	Address  string    `json:"address,omitempty"`  // group: P2P device address
	Code     string    `json:"code,omitempty"`     // pair: the six digits that both devices show
	Own      bool      `json:"own,omitempty"`      // pair: begun here
	Answered bool      `json:"answered,omitempty"` // pair: yes was said here; the other side has not answered
	Warning  string    `json:"warning,omitempty"`  // of the device, as that of a Pairing
}

// AcceptRequest answers an InboxItem with yes.
type AcceptRequest struct {
	Into   string `json:"into,omitempty"`   // folder, "" = the inbox
	PIN    string `json:"pin,omitempty"`    // for method "enter_pin"
	Always bool   `json:"always,omitempty"` // from now on accept from this trusted device without asking
}

// SendRequest offers files or folders to devices.
type SendRequest struct {
	Paths []string `json:"paths"` // absolute
	To    []string `json:"to"`    // DeviceIDs, names, short IDs or addresses
	Name  string   `json:"name,omitempty"`
	Later bool     `json:"later,omitempty"` // do not wait until devices are found: what is for those that are away waits in the outbox
}

// PairRequest begins to pair with a device.
type PairRequest struct {
	Device string `json:"device"`         // anything that names a device
	Code   string `json:"code,omitempty"` // its setup code; "" = codes are compared
}

// Pairing is two devices beginning to trust each other.
type Pairing struct {
	ID       string  `json:"id"`   // "" when a setup code was used; else that of its InboxItem
	Peer     string  `json:"peer"` // DeviceID
	Short    string  `json:"short"`
	PeerName string  `json:"peer_name"`
	State    string  `json:"state"`          // "comparing", "waiting" (yes was said here), "paired"
	Code     string  `json:"code,omitempty"` // the six digits to compare
	Own      bool    `json:"own,omitempty"`  // begun here
	Expires  float64 `json:"expires_s"`      // seconds until it ends by itself, -1 never
	// Warning is what a person should know before saying yes, one or two sentences: the
	// device has the name of a known one, and another key.
	Warning string `json:"warning,omitempty"`
}

// SetupCodeRequest asks for this device's setup code.
type SetupCodeRequest struct {
	New bool `json:"new,omitempty"` // make a new one; the old one is worth nothing any more
}

// SetupCode lets whoever types it on another device pair with this one.
type SetupCode struct {
	Code   string  `json:"code"`
	Locked float64 `json:"locked_s"` // seconds for which no code is taken, after wrong ones
	Wrong  int     `json:"wrong"`    // wrong ones in a row
}

// Address is an address that a person typed for a device.
type Address struct {
	Address string `json:"address"` // HOST:PORT
	ID      string `json:"id"`      // DeviceID of whom it leads to
	Short   string `json:"short"`
	Name    string `json:"name"`
	// Remembered says that it is kept when the agent ends: its device is trusted.
	Remembered bool `json:"remembered"`
	Answers    bool `json:"answers"` // the device answers there
}

// AddressRequest adds or removes typed addresses.
type AddressRequest struct {
	Action  string `json:"action"`  // "add" or "remove"
	Address string `json:"address"` // HOST[:PORT]; to remove, also what names a device
}

// FindRequest looks for Wi-Fi Direct devices for a while.
type FindRequest struct {
	Seconds float64 `json:"seconds"` // at most 120; 0 = 30
}

// GroupRequest creates a Wi-Fi Direct group, joins a device's, or invites one.
type GroupRequest struct {
	Action     string `json:"action"` // "create", "join", "invite"
	Device     string `json:"device,omitempty"`
	Frequency  int    `json:"frequency,omitempty"` // MHz
	Band       string `json:"band,omitempty"`      // "2" or "5"
	Persistent bool   `json:"persistent,omitempty"`
	Intent     *int   `json:"intent,omitempty"` // GO intent 0..15
	Method     string `json:"method,omitempty"` // "pbc" (default), "show_pin", "enter_pin"
	PIN        string `json:"pin,omitempty"`
	Ifname     string `json:"ifname,omitempty"` // "invite": the group, "" = the only one
}

// AnyGroup in place of an interface leaves the only group there is, and ends what
// is just being formed.
const AnyGroup = "any"

// Setting is one setting as it counts, under the policy of the machine.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`           // "default", "nigh config set", "FILE:LINE", "environment NAME" or "flag"
	Policy bool   `json:"policy,omitempty"` // the policy says so: Origin is its FILE:LINE
}

// SettingsRequest changes settings that a person chose in a face. What the configuration file, the environment or
// a flag sets cannot be chosen.
type SettingsRequest struct {
	Set   map[string]string `json:"set,omitempty"`   // values by key, as a person writes them; "" takes a choice back
	Asked bool              `json:"asked,omitempty"` // the questions of the first run were answered or put off: no face asks again
}

// Configuration is the answer about settings.
type Configuration struct {
	Settings []Setting `json:"settings"`
	// Later are the keys that differ since the agent started and count from its next
	// start on; of a reload.
	Later []string `json:"later,omitempty"`
}

// Check is one line of `nigh doctor`.
type Check struct {
	ID    string `json:"id"`
	State string `json:"state"` // "ok", "warn", "fail"
	Cause string `json:"cause"` // one plain sentence
	Fix   string `json:"fix,omitempty"`
}

// State is everything a face shows, in one piece.
type State struct {
	Status    Status      `json:"status"`
	Peers     []Peer      `json:"peers"`
	Transfers []Transfer  `json:"transfers"`
	Inbox     []InboxItem `json:"inbox"`
	// Messages are the newest ones, at most 50 and some 256 KiB, in the order of
	// their numbers; GET /v1/messages has the others.
	Messages []Message `json:"messages"`
	Unread   Unread    `json:"unread"`
	// Log are the last lines of the log, oldest first, for who asked for it
	// ([Client.WatchLog]); nil for others.
	Log []LogLine `json:"log,omitzero"`
}

// Event is one line of GET /v1/events. The first has Type "state"; each later
// one carries the full new value of one thing. Seq grows by one with each line,
// so that a gap is seen.
type Event struct {
	Seq      uint64     `json:"seq"`
	Type     string     `json:"type"` // "state", "status", "peer", "peer_gone", "transfer", "transfer_gone", "inbox", "inbox_gone", "message", "message_gone", "unread", "log", "step", "end"
	State    *State     `json:"state,omitempty"`
	Status   *Status    `json:"status,omitempty"`
	Peer     *Peer      `json:"peer,omitempty"`
	Transfer *Transfer  `json:"transfer,omitempty"`
	Inbox    *InboxItem `json:"inbox,omitempty"`
	Message  *Message   `json:"message,omitempty"`
	Unread   *Unread    `json:"unread,omitempty"`
	Key      string     `json:"key,omitempty"` // of "peer_gone", "transfer_gone", "inbox_gone", "message_gone": Peer.Key, Transfer.ID, InboxItem.ID, Message.ID
	Log      *LogLine   `json:"log,omitempty"`
	Step     *Step      `json:"step,omitempty"`
	Reason   string     `json:"reason,omitempty"` // of "end": why the stream was cut
}

// LogLine is one line of the agent's log.
type LogLine struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"`
	Message string    `json:"message"`
	Attrs   string    `json:"attrs,omitempty"`  // key=value pairs, escaped
	Missed  int       `json:"missed,omitempty"` // in events: lines before this one that the reader was too slow for
}

// Step is progress of something slow that a person waits for, such as forming
// a Wi-Fi Direct group.
type Step struct {
	What  string  `json:"what"`  // "group", "connect"
	Name  string  `json:"name"`  // "find", "negotiate", "group", "address", "session"
	State string  `json:"state"` // "running", "ok", "failed"
	Text  string  `json:"text,omitempty"`
	After float64 `json:"after_s"` // seconds since the command
}

// Key identifies a peer in events: its DeviceID, or "direct:" and the P2P
// device address while the identity is not known.
func (p Peer) Key() string {
	if p.ID != "" {
		return p.ID
	}
	for _, path := range p.Paths {
		if path.Kind == "direct" {
			return "direct:" + path.Address
		}
	}
	return "name:" + p.Name
}
