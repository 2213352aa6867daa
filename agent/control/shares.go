package control

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
)

// Sharing is the part of [Backend] about shared folders, here and on other devices.
type Sharing interface {
	// Shares returns this device's shares by name.
	Shares(ctx context.Context) ([]Share, error)
	// AddShare makes a share and returns it; its index is made in the background.
	AddShare(ctx context.Context, r ShareRequest) (Share, error)
	// ChangeShare changes a share by its name and returns it. What is being sent to a device that may not see it any more ends.
	ChangeShare(ctx context.Context, name string, r ShareChange) (Share, error)
	// RemoveShare ends a share by its name. The folder stays.
	RemoveShare(ctx context.Context, name string) error
	// Browse returns the shares of a device, or a page of a folder of one.
	Browse(ctx context.Context, r BrowseRequest) (Listing, error)
	// Search asks all connected trusted devices at the same time, and returns what all of them have. each, unless it is nil, gets the
	// Results of an answer as soon as it comes: those that are new, and those that have one more holder. One call at a time.
	Search(ctx context.Context, r SearchRequest, each func(SearchAnswer)) (SearchAnswer, error)
	// Get asks for a file or folder of a share, or for a content, and returns the
	// transfer that receives it.
	Get(ctx context.Context, r GetRequest) (Transfer, error)
}

// Share is a shared folder of this device.
type Share struct {
	Name   string   `json:"name"`
	Folder string   `json:"folder"` // escaped for a screen
	For    []Member `json:"for"`    // who may see it; empty: all trusted devices
	Hidden bool     `json:"hidden"` // names that begin with a dot are shared too
	// State is "scanning", "ready", "missing" (the folder is not there now) or
	// "full" (it has more entries than a share can have; the rest is shared).
	State      string `json:"state"`
	Error      string `json:"error,omitempty"` // what is wrong, one sentence
	Hint       string `json:"hint,omitempty"`
	Files      int    `json:"files"`
	Dirs       int    `json:"dirs"`
	Bytes      int64  `json:"bytes"`
	Hashed     int    `json:"hashed"`           // files whose content is known by its hash
	Skipped    int    `json:"skipped"`          // links, special files and names that no device takes
	Unreadable int    `json:"unreadable"`       // files and folders that the agent's user cannot read
	Watched    string `json:"watched"`          // "inotify", or "periodic": looked at every ten minutes
	Notice     string `json:"notice,omitempty"` // what the person should know, one sentence
}

// Member is a device that may see a share.
type Member struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// ShareRequest makes a share.
type ShareRequest struct {
	Folder string   `json:"folder"` // absolute
	Name   string   `json:"name,omitempty"`
	For    []string `json:"for,omitempty"`    // trusted devices; empty: all of them
	Hidden bool     `json:"hidden,omitempty"` // with names that begin with a dot
}

// ShareChange changes a share. What is nil stays as it is.
type ShareChange struct {
	Name   *string   `json:"name,omitempty"`
	For    *[]string `json:"for,omitempty"`    // trusted devices; empty: all of them
	Hidden *bool     `json:"hidden,omitempty"` // with names that begin with a dot
}

// BrowseRequest asks for what a device shares.
type BrowseRequest struct {
	Device string `json:"device"`
	Share  string `json:"share,omitempty"` // "": the shares
	Path   string `json:"path,omitempty"`  // below the share
	After  string `json:"after,omitempty"` // the last name of the page before
}

// Listing is what a device shares, or a page of a folder of it.
type Listing struct {
	Device  Member        `json:"device"`
	Share   string        `json:"share,omitempty"`
	Path    string        `json:"path,omitempty"`
	Shares  []RemoteShare `json:"shares,omitempty"`
	Entries []ShareEntry  `json:"entries,omitempty"`
	More    bool          `json:"more,omitempty"` // ask again with the last Name as After
}

// RemoteShare is a share of another device.
type RemoteShare struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Dirs  int    `json:"dirs"`
	Bytes int64  `json:"bytes"`
	State string `json:"state"` // as of Share
}

// ShareEntry is a file or folder of another device's share. Its name and path
// are as they are there, for asking again: a face escapes them.
type ShareEntry struct {
	Name       string        `json:"name"`
	Kind       string        `json:"kind"` // "file" or "folder"
	Executable bool          `json:"executable,omitempty"`
	Size       int64         `json:"size"`
	Modified   string        `json:"modified,omitempty"` // RFC 3339, by the clock of its device
	Hash       string        `json:"hash,omitempty"`     // BLAKE3, when it is known there
	Holders    []ShareHolder `json:"holders,omitempty"`  // of a search: where it lies, at least one
}

// ShareHolder is where a result of a search lies.
type ShareHolder struct {
	Device Member `json:"device"`
	Share  string `json:"share"`
	Path   string `json:"path"`
}

// SearchRequest looks for files and folders by words of their names.
type SearchRequest struct {
	Query string `json:"query"`
}

// SearchAnswer is what was found.
type SearchAnswer struct {
	Results []ShareEntry `json:"results"`
	Asked   int          `json:"asked"`            // devices
	Silent  []Member     `json:"silent,omitempty"` // devices that did not answer in time
	More    bool         `json:"more,omitempty"`   // devices have more than they told
	End     bool         `json:"end,omitempty"`    // of a stream: all have answered; Results were told before
}

// GetRequest asks for a file or folder of a share, or for a content.
type GetRequest struct {
	Device string   `json:"device,omitempty"` // with Share and Path
	Share  string   `json:"share,omitempty"`
	Path   string   `json:"path,omitempty"` // "": the whole share
	Hash   string   `json:"hash,omitempty"` // instead: a content that any of From has
	From   []string `json:"from,omitempty"` // with Hash; empty: all connected trusted devices
	Into   string   `json:"into,omitempty"` // absolute path of a folder, "" = the inbox
}

type sharesAnswer struct {
	Shares []Share `json:"shares"`
}

// handler is how a route is added, see Server.routes.
type handler func(pattern string, fn func(http.ResponseWriter, *http.Request) (any, error))

func sharingRoutes(handle handler, b Sharing) {
	handle("GET /v1/shares", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		v, err := b.Shares(r.Context())
		return sharesAnswer{orEmpty(v)}, err
	})
	handle("POST /v1/shares", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q ShareRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.AddShare(r.Context(), q)
	})
	handle("POST /v1/shares/{id}", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q ShareChange
		name, err := read(w, r, &q)
		if err != nil {
			return nil, err
		}
		return b.ChangeShare(r.Context(), name, q)
	})
	handle("DELETE /v1/shares/{id}", func(w http.ResponseWriter, r *http.Request) (any, error) {
		id, err := read(w, r, &empty{})
		if err != nil {
			return nil, err
		}
		return empty{}, b.RemoveShare(r.Context(), id)
	})
	handle("POST /v1/browse", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q BrowseRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.Browse(r.Context(), q)
	})
	handle("POST /v1/search", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q SearchRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		v, err := b.Search(r.Context(), q, nil)
		v.Results = orEmpty(v.Results)
		return v, err
	})
	handle("POST /v1/get", func(w http.ResponseWriter, r *http.Request) (any, error) {
		var q GetRequest
		if _, err := read(w, r, &q); err != nil {
			return nil, err
		}
		return b.Get(r.Context(), q)
	})
}

// searchStream answers a search line by line.
func (s *Server) searchStream(w http.ResponseWriter, r *http.Request) {
	var q SearchRequest
	if _, err := read(w, r, &q); err != nil {
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	out := &lineWriter{w: w, rc: http.NewResponseController(w), patience: s.patience}
	began := false
	tell := func(a SearchAnswer) {
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/x-ndjson")
			w.WriteHeader(http.StatusOK)
		}
		if out.line(a) != nil || out.flush() != nil {
			cancel() // nobody reads any more
		}
	}
	last, err := s.backend.Search(ctx, q, tell)
	switch {
	case err == nil:
		last.Results, last.End = []ShareEntry{}, true
		tell(last)
	case !began:
		s.fail(w, r, err)
	default: // the stream ends without its last line, which says as much
		s.log.Debug("Search given up", "error", err)
	}
}

// Shares returns this device's shares.
func (c *Client) Shares(ctx context.Context) ([]Share, error) {
	v, err := call[sharesAnswer](c, ctx, http.MethodGet, "/v1/shares", nil)
	return v.Shares, err
}

// AddShare makes a share and returns it.
func (c *Client) AddShare(ctx context.Context, r ShareRequest) (Share, error) {
	return call[Share](c, ctx, http.MethodPost, "/v1/shares", r)
}

// ChangeShare changes a share by its name and returns it.
func (c *Client) ChangeShare(ctx context.Context, name string, r ShareChange) (Share, error) {
	return call[Share](c, ctx, http.MethodPost, "/v1/shares/"+url.PathEscape(name), r)
}

// RemoveShare ends a share by its name.
func (c *Client) RemoveShare(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, "/v1/shares/"+url.PathEscape(name), nil)
}

// Browse returns the shares of a device, or a page of a folder of one. The device
// may have to be found first.
func (c *Client) Browse(ctx context.Context, r BrowseRequest) (Listing, error) {
	return call[Listing](c, ctx, http.MethodPost, "/v1/browse", r)
}

// Search asks all connected trusted devices; it takes some seconds at most.
func (c *Client) Search(ctx context.Context, r SearchRequest) (SearchAnswer, error) {
	return call[SearchAnswer](c, ctx, http.MethodPost, "/v1/search", r)
}

// SearchEach is [Client.Search] for those who want what each device has as soon as it answers: each gets the results that are new, and
// those that have one more holder. The last answer, which SearchEach returns, has no results. An error of each ends it and is returned.
func (c *Client) SearchEach(ctx context.Context, r SearchRequest, each func([]ShareEntry) error) (SearchAnswer, error) {
	resp, err := c.request(ctx, http.MethodPost, "/v1/search/stream", r)
	if err != nil {
		return SearchAnswer{}, err
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	for {
		var a SearchAnswer
		if err := dec.Decode(&a); err != nil {
			return SearchAnswer{}, broken(ctx, err)
		}
		if a.End {
			return a, nil
		}
		if err := each(a.Results); err != nil {
			return SearchAnswer{}, err
		}
	}
}

// Get asks for something that is shared and returns the transfer that receives it,
// once it was offered.
func (c *Client) Get(ctx context.Context, r GetRequest) (Transfer, error) {
	return call[Transfer](c, ctx, http.MethodPost, "/v1/get", r)
}
