package transfer

import (
	"slices"
	"time"

	"nigh/agent/content"
	"nigh/agent/identity"
)

// A State of a transfer. doc.go says what each means on either side.
type State string

// The states.
const (
	Waiting   State = "waiting"   // for the receiver's person to answer
	Queued    State = "queued"    // for its turn or for the peer, see ErrorCode
	Running   State = "running"   // bytes move
	Paused    State = "paused"    // by a person on one of the sides
	Verifying State = "verifying" // all bytes are there; synced, renamed, told
	Done      State = "done"
	Refused   State = "refused"
	Failed    State = "failed" // see ErrorCode
)

// Ended reports whether nothing happens any more by itself.
func (s State) Ended() bool { return s == Done || s == Refused || s == Failed }

// A Direction of a transfer, seen from this device.
type Direction string

// The directions.
const (
	Send    Direction = "send"
	Receive Direction = "receive"
)

// transitions is the table in doc.go. A change to the same state is always allowed.
var transitions = map[Direction]map[State][]State{
	Receive: {
		"":        {Waiting, Queued, Refused},
		Waiting:   {Queued, Refused, Failed},
		Queued:    {Running, Verifying, Paused, Failed},
		Running:   {Queued, Paused, Verifying, Failed},
		Paused:    {Queued, Failed},
		Verifying: {Done, Queued, Paused, Failed},
		Failed:    {Queued},
	},
	Send: {
		"":      {Queued},
		Queued:  {Waiting, Running, Paused, Done, Refused, Failed},
		Waiting: {Running, Queued, Paused, Done, Refused, Failed},
		Running: {Queued, Paused, Done, Refused, Failed},
		Paused:  {Queued, Running, Done, Refused, Failed},
		Failed:  {Running},
	},
}

func allowed(d Direction, from, to State) bool {
	return from == to || slices.Contains(transitions[d][from], to)
}

// A Failure is a file that was not transferred while others were.
type Failure struct {
	Path string `json:"path"`
	Code string `json:"code"`
}

// A Transfer is a snapshot of one transfer for showing. Everything that came from the peer (Name, Names, Failures, Reason) is to be escaped
// before it reaches a terminal.
type Transfer struct {
	ID          string // 16 hexadecimal digits, our own
	X           string // the transfer's name between the two devices
	Origin      string // of a [SendRequest]
	Direction   Direction
	Peer        identity.DeviceID
	Name        string // label, or the first top-level name
	Names       []string
	Tops        int // top-level names in all
	Files, Dirs int
	BytesTotal  int64
	BytesDone   int64   // verified and written, or at a sender: asked for by the receiver
	Sent        int64   // bytes of content that left or reached us, repeats included
	Rate        float64 // bytes in a second, lately; 0 when not running
	State       State
	Error       string        // of the last trouble, for the log; may be set in any state
	ErrorCode   string        // the word of it, see Code
	Reason      string        // the peer's own words with a refusal
	Sources     int           // peers that bytes come from now
	Holders     []HolderShare // what came from whom, of what is received
	Path        string        // where it lies, or what is sent
	Hash        content.Hash
	Dotfiles    bool
	Executables bool
	Skipped     Skipped
	Failures    []Failure // the first of them
	FilesFailed int
	Asked       bool // it is received because this device asked for it
	Offered     bool // the peer has the offer; a transfer that is not offered and has not ended is in the outbox
	PausedHere  bool
	PausedThere bool
	Started     time.Time // for showing only
	Ended       time.Time // zero while it has not ended
}
