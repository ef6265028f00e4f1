package message

// Replay is the sequence numbers and the window of an SA. As struct xfrm_replay_state_esn it holds windows of up to 4096 packets and, on an SA with the flag
// ESN, sequence numbers of 64 bits; an older form in the SA itself holds windows of up to 32.
type Replay struct {
	Window   uint32 // packets
	Out, In  uint64 // the last sequence number sent, and the highest received
	Bitmap   []uint32
	Extended bool // the form of struct xfrm_replay_state_esn
}

// MaxWindow is the largest window that the kernel takes (XFRMA_REPLAY_ESN_MAX).
const MaxWindow = 4096

const sizeReplayESN = 24

// appendTo appends the state: with Extended always, otherwise only if it is not that of a new SA.
func (r Replay) appendTo(b []byte) []byte {
	if !r.Extended {
		if r.Out == 0 && r.In == 0 {
			return b
		}
		v := native.AppendUint32(nil, uint32(r.Out))
		v = native.AppendUint32(v, uint32(r.In))
		word := uint32(0)
		if len(r.Bitmap) > 0 {
			word = r.Bitmap[0]
		}
		return appendAttr(b, attrReplay, native.AppendUint32(v, word))
	}
	words := int(r.Window+31) / 32
	v := native.AppendUint32(nil, uint32(words))
	for _, w := range []uint32{uint32(r.Out), uint32(r.In), uint32(r.Out >> 32), uint32(r.In >> 32), r.Window} {
		v = native.AppendUint32(v, w)
	}
	if len(r.Bitmap) == words { // otherwise none, and the kernel makes an empty one
		for _, word := range r.Bitmap {
			v = native.AppendUint32(v, word)
		}
	}
	return appendAttr(b, attrReplayESN, v)
}

// parseReplay reads the older form. The window is that of the SA.
func (r *Replay) parseReplay(v []byte) {
	if len(v) >= 12 && !r.Extended {
		r.Out, r.In, r.Bitmap = uint64(native.Uint32(v)), uint64(native.Uint32(v[4:])), []uint32{native.Uint32(v[8:])}
	}
}

func (r *Replay) parseESN(v []byte) {
	if len(v) < sizeReplayESN {
		return
	}
	word := func(i int) uint32 { return native.Uint32(v[4*i:]) }
	r.Extended = true
	r.Out, r.In, r.Window = uint64(word(3))<<32|uint64(word(1)), uint64(word(4))<<32|uint64(word(2)), word(5)
	r.Bitmap = nil
	for i := range min(int(word(0)), (len(v)-sizeReplayESN)/4) {
		r.Bitmap = append(r.Bitmap, word(6+i))
	}
}
