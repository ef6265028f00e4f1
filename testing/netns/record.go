package netns

import (
	"bufio"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// recordedFile bounds each of the two files of a record.
	recordedFile = 1 << 20
	// recordedFrame is how much of each frame is kept.
	recordedFrame = 256
)

// Record keeps the last frames that arrive and leave on the outer interface of a host, in file0 and file1 in turns, a megabyte each, with the first 256 octets of each frame: tcpdump and
// others read it. What the kernel has decrypted is there a second time; keys are nowhere in it. The end of the lab ends it too.
//
// It does without the ring that tcpdump has: in the guests of testing/uml the kernel can take hours to give that back.
func (h *Host) Record(file string) (stop func() error, err error) {
	r := recorder{file: file, quit: make(chan struct{}), done: make(chan struct{})}
	err = h.Do(func() (err error) {
		r.fd, err = packetSocket(unix.SOCK_RAW, unix.ETH_P_ALL)
		return err
	})
	if err == nil {
		err = r.next()
	}
	if err != nil {
		return nil, err
	}
	go r.run()
	ended := false
	stop = func() error {
		if !ended {
			ended = true
			close(r.quit)
			<-r.done
		}
		return r.err
	}
	h.lab.OnClose(stop)
	return stop, nil
}

type recorder struct {
	file       string
	fd         int
	quit, done chan struct{}
	err        error // of writing; read after done

	turn    int
	out     *os.File
	buffer  *bufio.Writer
	written int
}

// next begins the other file.
func (r *recorder) next() (err error) {
	if r.out != nil {
		err = errors.Join(r.buffer.Flush(), r.out.Close())
	}
	var opened error
	if r.out, opened = os.Create(r.file + string('0'+rune(r.turn%2))); opened != nil {
		return errors.Join(err, opened)
	}
	r.turn++
	r.buffer = bufio.NewWriterSize(r.out, 1<<16)
	head := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4) // pcap, with microseconds
	head = binary.LittleEndian.AppendUint16(head, 2)
	head = binary.LittleEndian.AppendUint16(head, 4)
	for _, v := range []uint32{0, 0, recordedFrame, 1} { // UTC, no accuracy, length, Ethernet
		head = binary.LittleEndian.AppendUint32(head, v)
	}
	n, werr := r.buffer.Write(head)
	r.written = n
	return errors.Join(err, werr)
}

func (r *recorder) run() {
	defer close(r.done)
	defer unix.Close(r.fd)
	frame := make([]byte, recordedFrame)
	for r.err == nil {
		n, _, err := unix.Recvfrom(r.fd, frame, unix.MSG_TRUNC)
		if err == nil {
			r.err = r.write(frame[:min(n, len(frame))], n)
			continue
		}
		select {
		case <-r.quit: // there is nothing more to read
			r.err = errors.Join(r.buffer.Flush(), r.out.Close())
			return
		default:
			r.err = r.buffer.Flush()
		}
	}
}

// write adds a frame that had so many octets.
func (r *recorder) write(frame []byte, octets int) error {
	if r.written+16+len(frame) > recordedFile {
		if err := r.next(); err != nil {
			return err
		}
	}
	now := time.Now()
	head := binary.LittleEndian.AppendUint32(make([]byte, 0, 16), uint32(now.Unix()))
	for _, v := range []int{now.Nanosecond() / 1000, len(frame), octets} {
		head = binary.LittleEndian.AppendUint32(head, uint32(v))
	}
	n, err := r.buffer.Write(append(head, frame...))
	r.written += n
	return err
}
