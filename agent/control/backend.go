package control

import "context"

// Backend is what a [Server] serves; the agent implements it. Every method is
// safe for concurrent use, and an error that is (or wraps) an [*Error] reaches
// the face as it is, any other as CodeInternal.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	Peers(ctx context.Context) ([]Peer, error)
	Inbox(ctx context.Context) ([]InboxItem, error)
	// Accept answers yes to an inbox item; Refuse answers no.
	Accept(ctx context.Context, id string, r AcceptRequest) error
	Refuse(ctx context.Context, id string) error
	Transfers(ctx context.Context) ([]Transfer, error)
	// Send makes one transfer for each device. It returns once the offers are
	// made or queued; their fate follows in events.
	Send(ctx context.Context, r SendRequest) ([]Transfer, error)
	// CancelTransfer, PauseTransfer and ResumeTransfer take a transfer's ID or
	// an unambiguous prefix of it.
	CancelTransfer(ctx context.Context, id string) error
	PauseTransfer(ctx context.Context, id string) error
	ResumeTransfer(ctx context.Context, id string) error
	// Messages returns messages in the order of their numbers.
	Messages(ctx context.Context, q MessageQuery) (MessagePage, error)
	// SendMessage writes a message into the outbox and returns it once it is on
	// the disk; its fate follows in events.
	SendMessage(ctx context.Context, r MessageRequest) (Message, error)
	// CancelMessage takes a message back from the devices that do not have it. It
	// takes a message's ID or an unambiguous prefix of it.
	CancelMessage(ctx context.Context, id string) error
	// ReadMessages notes that the person has seen every message up to a number.
	ReadMessages(ctx context.Context, r ReadRequest) (Unread, error)
	Trust(ctx context.Context) ([]Trusted, error)
	ChangeTrust(ctx context.Context, r TrustRequest) (Trusted, error)
	// Pair begins to pair and returns once the code to compare is known; with a setup
	// code it returns when the two are paired.
	Pair(ctx context.Context, r PairRequest) (Pairing, error)
	// WaitPairing blocks until a pairing is over. It returns it when it succeeded.
	WaitPairing(ctx context.Context, id string) (Pairing, error)
	SetupCode(ctx context.Context, r SetupCodeRequest) (SetupCode, error)
	Addresses(ctx context.Context) ([]Address, error)
	// ChangeAddress greets and keeps a typed address, or removes some, and returns
	// them.
	ChangeAddress(ctx context.Context, r AddressRequest) ([]Address, error)
	Find(ctx context.Context, r FindRequest) error
	Groups(ctx context.Context) ([]Group, error)
	// Group creates, joins or invites, and blocks until the group is up, the
	// invitation went out, or it failed.
	Group(ctx context.Context, r GroupRequest) (Group, error)
	LeaveGroup(ctx context.Context, ifname string) error
	Doctor(ctx context.Context) ([]Check, error)
	ExportTrust(ctx context.Context) (TrustDocument, error)
	// ImportTrust merges a trust book into this one: what is decided here stays, and
	// what is blocked anywhere is blocked.
	ImportTrust(ctx context.Context, d TrustDocument) (TrustImport, error)
	Configuration(ctx context.Context) (Configuration, error)
	// ChangeConfiguration keeps what a person chose and goes by it; when that cannot be, nothing changes.
	ChangeConfiguration(ctx context.Context, r SettingsRequest) (Configuration, error)
	// ReloadConfiguration reads settings and policy again; when one cannot be read,
	// nothing changes.
	ReloadConfiguration(ctx context.Context) (Configuration, error)
	// Log returns the last lines of the agent's log, oldest first.
	Log(ctx context.Context) ([]LogLine, error)
	Sharing
	// Watch returns the state now and every change after it, and with log also what
	// is logged. The two are one atomic step. The channel is closed after cancel, or when this watcher fell
	// behind: then its last event has Type "end" and a Reason.
	Watch(ctx context.Context, log bool) (events <-chan Event, cancel func(), err error)
}
