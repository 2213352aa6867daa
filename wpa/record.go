package wpa

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"nigh/wpa/dbusapi"
)

// maxRecord bounds the file of a record, in bytes.
const maxRecord = 64 << 10

// record is what a supplicant had before a run changed it, kept in a file so that the next run can put it back when that one
// dies. It is of one supplicant: a new one has its own settings.
type record struct {
	Instance string         `json:"instance"` // names the supplicant's process and connection
	Owner    dbusapi.Path   `json:"owner"`
	Config   dbusapi.Config `json:"config"`
	Methods  string         `json:"methods"`
	Profiles []dbusapi.Path `json:"profiles"`
	Created  bool           `json:"created"`
}

// loadRecord reads the record of an earlier run. There is none when it ended well, or when the file cannot be understood.
func loadRecord(path string) (r record, ok bool) {
	if path == "" {
		return r, false
	}
	f, err := os.Open(path)
	if err != nil {
		return r, false
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxRecord))
	return r, err == nil && json.Unmarshal(raw, &r) == nil
}

// write replaces the record, so that a crash leaves the old or the new one.
func (r record) write(path string) error {
	if path == "" {
		return nil
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// dropRecord says that everything was put back.
func dropRecord(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// recorded are the settings as a record keeps them.
func (s *settings) recorded(instance string) record {
	r := record{Instance: instance, Owner: s.owner, Config: s.config, Methods: s.methods, Created: s.created}
	for p := range s.profiles {
		r.Profiles = append(r.Profiles, p)
	}
	return r
}

// settings are what the record says was there before.
func (r record) settings() settings {
	s := settings{owner: r.Owner, config: r.Config, methods: r.Methods, created: r.Created, profiles: map[dbusapi.Path]bool{}}
	for _, p := range r.Profiles {
		s.profiles[p] = true
	}
	return s
}
