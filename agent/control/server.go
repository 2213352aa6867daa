package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// Bounds of the local API. The faces are the user's own programs: the bounds are
// against mistakes and web pages, not against floods.
const (
	maxBody     = 4 << 20 // bytes of a request; a shell hands over at most 2 MiB of paths
	maxID       = 256     // bytes of an ID in a path
	maxWatchers = 64
	headerWait  = 5 * time.Second
	bodyWait    = 30 * time.Second
	writeWait   = 10 * time.Second // a reader that takes no byte for this long is cut
	stopWait    = 3 * time.Second  // for answers in flight when the agent stops
)

// versionHeader carries [Version] in every answer.
const versionHeader = "Nigh-Api"

// Config is what a [Server] needs.
type Config struct {
	Logger  *slog.Logger // nil discards
	Backend Backend      // required
	Metrics http.Handler // of GET /metrics; nil says that this program has none
}

// Server serves a [Backend] on a Unix socket. Make it with [NewServer].
type Server struct {
	log      *slog.Logger
	backend  Backend
	handler  http.Handler
	metrics  http.Handler // nil for none
	watchers atomic.Int64
	patience time.Duration // writeWait, but in a test
}

// NewServer returns a server for c.Backend; [Server.Serve] runs it.
func NewServer(c Config) *Server {
	s := &Server{log: c.Logger, backend: c.Backend, metrics: c.Metrics, patience: writeWait}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.handler = s.guard(s.routes())
	return s
}

// allowedKey is the context key of the reason why a connection is refused (an
// *Error, nil when it may speak).
type allowedKey struct{}

// Serve answers on ln until ctx ends, then closes ln and ends what is under way:
// the contexts of requests are cancelled, watchers get an "end" event. It returns
// nil after ctx ended, or the error that broke ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	base, cancel := context.WithCancel(ctx)
	defer cancel()
	hs := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: headerWait,
		MaxHeaderBytes:    64 << 10,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return context.WithValue(ctx, allowedKey{}, s.admit(conn))
		},
	}
	failed := make(chan error, 1)
	go func() { failed <- hs.Serve(ln) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	stop, done := context.WithTimeout(context.Background(), stopWait)
	defer done()
	if hs.Shutdown(stop) != nil {
		_ = hs.Close() // what it would say is that ln is closed
	}
	if err == nil {
		err = <-failed
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("control: serve: %w", err)
}

// admit returns nil when the process at the other end of conn is the agent's
// user or root.
func (s *Server) admit(conn net.Conn) *Error {
	cred, err := credentials(conn)
	if err != nil {
		s.log.Warn("Control connection without credentials", "error", err)
		return &Error{Code: CodePermission, Message: "the agent cannot tell who asks"}
	}
	if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
		return nil
	}
	s.log.Warn("Control connection of another user refused", "uid", cred.Uid, "pid", cred.Pid)
	return &Error{Code: CodePermission,
		Message: fmt.Sprintf("this agent belongs to another user (uid %d)", os.Geteuid()),
		Hint:    "use an agent of your own, or sudo"}
}

// guard refuses foreign users and web pages, names the API version, and turns a
// panic into an error of that one request.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(versionHeader, strconv.Itoa(Version))
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				id := newErrorID()
				s.log.Error("Control request panicked", "error_id", id, "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
				s.refuse(w, internal(id))
			}
		}()
		// A connection that does not come through Serve has no verdict: refused.
		verdict, known := r.Context().Value(allowedKey{}).(*Error)
		if !known {
			verdict = &Error{Code: CodePermission, Message: "the agent cannot tell who asks"}
		}
		if verdict == nil {
			verdict = fromPage(r)
		}
		if verdict != nil {
			w.Header().Set("Connection", "close")
			s.refuse(w, verdict)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// fromPage returns an error when a browser may have sent r: it carries an origin,
// or a name that DNS rebinding could have brought here.
func fromPage(r *http.Request) *Error {
	for _, name := range []string{"Origin", "Referer", "Sec-Fetch-Site"} {
		if r.Header.Get(name) != "" {
			return &Error{Code: CodePermission, Message: "the local API does not serve web pages (" + name + " header)"}
		}
	}
	if r.Host != "nigh" && r.Host != "localhost" {
		return &Error{Code: CodePermission, Message: "the local API answers only for the host nigh or localhost"}
	}
	return nil
}

func (s *Server) routes() http.Handler {
	b := s.backend
	mux := http.NewServeMux()
	handle := func(pattern string, fn func(w http.ResponseWriter, r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := fn(w, r)
			if err != nil {
				s.fail(w, r, err)
				return
			}
			s.answer(w, http.StatusOK, answer)
		})
	}
	handle("GET /v1/status", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Status(r.Context())
		return tidyStatus(v), err
	})
	handle("GET /v1/peers", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Peers(r.Context())
		return peersAnswer{tidyPeers(v)}, err
	})
	handle("GET /v1/inbox", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Inbox(r.Context())
		return inboxAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/inbox/{id}/accept", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q AcceptRequest
		id, err := read(w, r, &q)
		if err != nil {
			return nil, err
		}
		return empty{}, b.Accept(r.Context(), id, q)
	})
	act := func(pattern string, fn func(ctx context.Context, id string) error) {
		handle(pattern, func(w http.ResponseWriter, r *http.Request) (any, error) {
			id, err := read(w, r, &empty{})
			if err != nil {
				return nil, err
			}
			return empty{}, fn(r.Context(), id)
		})
	}
	act("POST /v1/inbox/{id}/refuse", b.Refuse)
	act("POST /v1/transfers/{id}/cancel", b.CancelTransfer)
	act("POST /v1/transfers/{id}/pause", b.PauseTransfer)
	act("POST /v1/transfers/{id}/resume", b.ResumeTransfer)
	act("DELETE /v1/groups/{id}", b.LeaveGroup)
	handle("GET /v1/transfers", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Transfers(r.Context())
		return transfersAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/transfers", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q SendRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		v, err := b.Send(r.Context(), q)
		return transfersAnswer{orEmpty(v)}, err
	})
	handle("GET /v1/trust", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Trust(r.Context())
		return trustAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/trust", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q TrustRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.ChangeTrust(r.Context(), q)
	})
	handle("GET /v1/trust/export", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.ExportTrust(r.Context())
	})
	handle("POST /v1/trust/import", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q TrustDocument
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.ImportTrust(r.Context(), q)
	})
	handle("GET /v1/config", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.Configuration(r.Context())
	})
	handle("POST /v1/config", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q SettingsRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.ChangeConfiguration(r.Context(), q)
	})
	handle("POST /v1/config/reload", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return b.ReloadConfiguration(r.Context())
	})
	handle("POST /v1/pairings", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q PairRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.Pair(r.Context(), q)
	})
	handle("GET /v1/pairings/{id}", func(w http.ResponseWriter, r *http.Request) (any, error) {
		id, err := read(w, r, &empty{})
		if err != nil {
			return nil, err
		}
		return b.WaitPairing(r.Context(), id)
	})
	handle("POST /v1/setup-code", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q SetupCodeRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.SetupCode(r.Context(), q)
	})
	handle("GET /v1/addresses", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Addresses(r.Context())
		return addressesAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/addresses", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q AddressRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		v, err := b.ChangeAddress(r.Context(), q)
		return addressesAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/find", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q FindRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return empty{}, b.Find(r.Context(), q)
	})
	handle("GET /v1/groups", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Groups(r.Context())
		return groupsAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/groups", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q GroupRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.Group(r.Context(), q)
	})
	handle("GET /v1/doctor", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Doctor(r.Context())
		return doctorAnswer{orEmpty(v)}, err
	})
	handle("GET /v1/log", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Log(r.Context())
		return logAnswer{orEmpty(v)}, err
	})
	sharingRoutes(handle, b)
	messageRoutes(b, handle)
	mux.HandleFunc("GET /v1/events", s.watch)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if s.metrics == nil {
			s.refuse(w, &Error{Code: CodeNotFound, Message: "this program was built without metrics", Hint: "build it with them: make build TAGS=metrics"})
			return
		}
		s.metrics.ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /v1/search/stream", s.searchStream)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, &Error{Code: CodeNotFound,
			Message: fmt.Sprintf("this agent has no %s %.80q", r.Method, r.URL.Path),
			Hint:    "the agent and the command may be of different versions: restart the agent"})
	})
	return mux
}

// The bodies of answers that hold a list.
type (
	empty       struct{}
	peersAnswer struct {
		Peers []Peer `json:"peers"`
	}
	logAnswer struct {
		Lines []LogLine `json:"lines"`
	}
	inboxAnswer struct {
		Items []InboxItem `json:"items"`
	}
	transfersAnswer struct {
		Transfers []Transfer `json:"transfers"`
	}
	trustAnswer struct {
		Devices []Trusted `json:"devices"`
	}
	addressesAnswer struct {
		Addresses []Address `json:"addresses"`
	}
	groupsAnswer struct {
		Groups []Group `json:"groups"`
	}
	doctorAnswer struct {
		Checks []Check `json:"checks"`
	}
)

// read takes the {id} of the path, "" where there is none, and the JSON body of
// r into v. A field that v does not have is an error: it asks for something that
// this agent cannot do.
func read(w http.ResponseWriter, r *http.Request, v any) (id string, err error) {
	id = r.PathValue("id")
	if len(id) > maxID {
		return "", &Error{Code: CodeUsage, Message: "the ID is too long"}
	}
	// Best effort: a socket always takes a deadline.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyWait))
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	dec.DisallowUnknownFields()
	err = dec.Decode(v)
	if err == nil {
		_, err = dec.Token()
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if !errors.Is(err, io.EOF) { // EOF: no body means no choice made, or the value was the last
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return "", &Error{Code: CodeUsage, Message: fmt.Sprintf("the request is larger than %d bytes", maxBody)}
		}
		return "", &Error{Code: CodeUsage, Message: "the request is not understood: " + err.Error(),
			Hint: "the agent and the command may be of different versions: restart the agent"}
	}
	// The deadline was for the body; the connection is also watched for its end
	// while a slow request runs, which must not look like a timeout.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return id, nil
}

func (s *Server) answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // no type here can fail to marshal
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if _, err := w.Write(append(body, '\n')); err != nil {
		s.log.Debug("Control answer not taken", "error", err)
	}
}

func (s *Server) refuse(w http.ResponseWriter, e *Error) {
	s.answer(w, e.Status(), e)
}

// fail answers err. Only an *Error is meant for people; any other is logged under
// an ID that the person can look for.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if e, ok := errors.AsType[*Error](err); ok {
		s.refuse(w, e)
		return
	}
	if r.Context().Err() != nil {
		s.refuse(w, &Error{Code: CodeFailed, Message: "the request was given up"})
		return
	}
	id := newErrorID()
	s.log.Error("Control request failed", "error_id", id, "method", r.Method, "path", r.URL.Path, "error", err)
	s.refuse(w, internal(id))
}

func internal(id string) *Error {
	return &Error{Code: CodeInternal, Message: "internal error " + id,
		Hint: "the agent's log has the cause: journalctl --grep " + id}
}

func newErrorID() string {
	var b [4]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}
