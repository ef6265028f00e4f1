// Package uml runs tests on a real kernel that has what the host's may lack: ESP, ESP in TCP, xfrm interfaces, netem. It is Linux 6.1 of Debian, built as a
// User Mode Linux program (kernel/build), which needs no virtualisation and boots in about a second.
//
// A test asks to be run inside, and is its own program there:
//
//	func TestStates(t *testing.T) {
//		if uml.Outside(t, uml.Full) {
//			return // it ran inside, and its results are this test's
//		}
//		// Inside: root, a kernel with ESP, no network but lo; testing/netns works.
//	}
//
// Outside it boots the guest, which runs the same test binary with -test.run for this test alone, and brings back its output, its subtests' results and
// its status. Tests share a boot by being subtests of one. To run one by hand, as anywhere else:
//
//	make kernel                                        # builds the kernels, once
//	go test ./testing/uml -v -run 'TestStates/tunnel'  # the part after the slash holds inside as well
//
// The guest sees the host's files, and writes to none of them: what it writes stays in its memory, except what goes to Dir, where captures and logs belong.
// When a test fails, Dir is kept and named, with the kernel's messages in the file console. Output grows in the file output while the guest runs; without -v only what
// the failed tests have said is repeated, shortened. The guest has one processor.
package uml

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// Kernel is one of those that kernel/build makes; its value is the name of the program, and parameters to boot it with.
type Kernel string

const (
	Full  Kernel = "linux"       // with ESP in TCP (RFC 9329): CONFIG_INET_ESPINTCP
	Stock Kernel = "linux-stock" // without, as Debian's own kernel
	Newer Kernel = "linux-newer" // that of Debian 13, whose SAs have a direction; with ESP in TCP
	// NoChaCha is Full that does not have ChaCha20-Poly1305: what would bring it in is not run.
	NoChaCha Kernel = Full + " initcall_blacklist=chacha20poly1305_module_init"
)

// memory is what the guest has. What it writes to files is in it too.
const memory = "1G"

// dirVar tells what runs inside that it does, and where Dir is.
const dirVar = "UML_DIR"

// Inside reports whether this process runs in the guest.
func Inside() bool { return os.Getenv(dirVar) != "" }

func init() {
	if Inside() {
		netns.Tick = 100 * time.Millisecond // system calls are slow here, and there is one processor
	}
}

// Dir is, inside, the directory that outlives the guest. Its files are complete on the host when the test has ended, not before.
func Dir() string { return os.Getenv(dirVar) }

//go:embed init
var initScript []byte

// Result is what came out of a guest.
type Result struct {
	Status int    // exit status of the command
	Output string // what the command printed on both outputs
	Kernel string // what the kernel said: warnings, and why it died if it did
}

// Boot starts the kernel, a program, and runs a bash script in it as root. dir, an absolute path, is the guest's Dir; env are its variables, KEY=VALUE. An
// error means that the guest did not get to the end of the script: it was too slow for ctx, could not start or died; the result holds what it
// printed until then. Nothing of the guest runs any more when Boot returns. parameters are the kernel's.
func Boot(ctx context.Context, kernel, dir string, env []string, script string, parameters ...string) (Result, error) {
	nonce := "end-of-guest-" + rand.Text()
	files := map[string]string{"init": string(initScript), "command": script, "nonce": nonce, "environment": exports(append(env, dirVar+"="+dir))}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			return Result{}, err
		}
	}
	out, outWrite, err := os.Pipe()
	if err != nil {
		return Result{}, err
	}
	defer out.Close()
	live, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return Result{}, errors.Join(err, outWrite.Close())
	}
	defer live.Close()
	var console bytes.Buffer
	ctx, end := context.WithCancel(ctx)
	defer end()
	// The kernel may not be the first process of its PID namespace, for that one cannot abort; the shell, which is, takes all others with it when it ends, and
	// they are many: one for each address space of the guest.
	cmd := exec.CommandContext(ctx, "sh", "-c", `"$0" "$@"; exit`, kernel, "mem="+memory, "rootfstype=hostfs", "rw", "init="+filepath.Join(dir, "init"),
		"uml_dir="+dir+"/", "quiet", "con=null", "con0=fd:0,fd:1", "con1=null,fd:3")
	cmd.Args = append(cmd.Args, parameters...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=/dev/shm"} // the guest's memory is a file there
	cmd.Stdout, cmd.Stderr = &console, &console
	cmd.ExtraFiles = []*os.File{outWrite}
	// The thread that starts it must stay: its end, too, would kill the guest.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Start()
	outWrite.Close()
	if err != nil {
		return Result{}, err
	}
	output, status, err := read(io.TeeReader(out, live), nonce)
	late := context.Cause(ctx)
	end() // the guest has written all files and waits for this
	ended := cmd.Wait()
	r := Result{Status: status, Output: output, Kernel: console.String()}
	switch {
	case late != nil:
		return r, fmt.Errorf("the guest was not done in time: %w", late)
	case err != nil:
		return r, fmt.Errorf("the guest ended before its command: %w, %w", ended, err)
	}
	return r, nil
}

// read collects output up to the line that starts with nonce, which holds the status.
func read(r io.Reader, nonce string) (output string, status int, err error) {
	var b strings.Builder
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		before, after, last := strings.Cut(line, nonce+" ")
		b.WriteString(before)
		if last {
			status, err = strconv.Atoi(strings.TrimSpace(after))
			return b.String(), status, err
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return b.String(), -1, err
		}
	}
}

// exports writes variables as the shell reads them. Names that the shell cannot have are left out.
func exports(env []string) string {
	var b strings.Builder
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if name == "" || strings.ContainsFunc(name, func(r rune) bool {
			return r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		}) {
			continue
		}
		fmt.Fprintf(&b, "export %s=%s\n", name, quote(value))
	}
	return b.String()
}

// quote makes one word of the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// words makes a command of the shell.
func words(args ...string) string {
	quoted := slices.Clone(args)
	for i := range quoted {
		quoted[i] = quote(quoted[i])
	}
	return strings.Join(quoted, " ")
}
