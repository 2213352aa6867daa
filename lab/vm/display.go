package vm

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// picturePort is the guest's port for asking for pictures of its display. A request is the name of a file in the shared folder,
// in a line; the answer is a line too: empty, or what went wrong.
const picturePort = "nigh.picture"

// takePictures answers the guest's requests until it is gone.
func (m *Machine) takePictures() {
	monitor := json.NewDecoder(m.monitor)
	// The monitor greets, and takes commands once its capabilities were negotiated.
	var greeting any
	if monitor.Decode(&greeting) != nil || m.command(monitor, "qmp_capabilities", nil) != nil {
		return // the guest is gone, or will be
	}
	for requests := bufio.NewReader(m.picture); ; {
		name, err := requests.ReadString('\n')
		if err != nil {
			return
		}
		said := ""
		if name = strings.TrimSpace(name); name != filepath.Base(name) {
			said = "not a name"
		} else if err := m.command(monitor, "screendump", map[string]string{"filename": filepath.Join(m.Share, name), "format": "png"}); err != nil {
			said = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		if _, err := io.WriteString(m.picture, said+"\n"); err != nil {
			return
		}
	}
}

// command runs a command of QEMU's monitor.
func (m *Machine) command(answers *json.Decoder, name string, arguments map[string]string) error {
	request := map[string]any{"execute": name}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.monitor).Encode(request); err != nil {
		return err
	}
	for {
		// Events come in between.
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		switch err := answers.Decode(&answer); {
		case err != nil:
			return err
		case answer.Error != nil:
			return errors.New(answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}

// pictures lets one goroutine at a time ask.
var pictures sync.Mutex

// Picture is for programs in the guest, run as root: it gives what the display shows, as a person would see it. It blocks for
// at most ten seconds.
func Picture() (image.Image, error) {
	pictures.Lock()
	defer pictures.Unlock()
	port, err := openPort(picturePort)
	if err != nil {
		return nil, fmt.Errorf("vm: picture: %w", err)
	}
	defer port.Close()
	if err := port.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, fmt.Errorf("vm: picture: %w", err)
	}
	const name = "picture.png"
	if _, err := io.WriteString(port, name+"\n"); err != nil {
		return nil, fmt.Errorf("vm: picture: %w", err)
	}
	said, err := bufio.NewReader(port).ReadString('\n')
	if said = strings.TrimSpace(said); err != nil || said != "" {
		return nil, fmt.Errorf("vm: picture: %q: %w", said, errors.Join(err, ErrGuest))
	}
	file, err := os.Open(filepath.Join("/run/lab", name))
	if err != nil {
		return nil, fmt.Errorf("vm: picture: %w", err)
	}
	defer file.Close()
	shown, err := png.Decode(file)
	if err != nil {
		return nil, fmt.Errorf("vm: picture: %w", err)
	}
	return shown, nil
}

// openPort opens the guest's virtio port of a name.
func openPort(name string) (*os.File, error) {
	found, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		if has, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(has)) == name {
			return os.OpenFile(filepath.Join("/dev", filepath.Base(filepath.Dir(path))), os.O_RDWR, 0)
		}
	}
	return nil, fmt.Errorf("%w: no port %s", os.ErrNotExist, name)
}
