/* The engine of `regex.py` in the compiled build: PCRE2 with its just-in-time compiler.

       compile(pattern) → Pattern     .match(data, at=0) → Match or None     .findall(data), .jit
       Match                          .groups()  .span(group=0)  .end(group=0)
       VERSION                        of the library, as "10.42"

   All of it is a part of what the module `re` can do, for bytes, and means the same. It knows no
   pattern of its own. Invariants: a match reads the bytes that it was given and no others, keeps
   them alive and never changes them; a pattern keeps one set of offsets, which is safe as the
   interpreter's lock is held from the start of a match to the copy of its offsets.

   Errors: `ValueError` for a pattern that PCRE2 refuses, with the place; `TypeError` and
   `IndexError` for arguments that `re` refuses too. A match that PCRE2 gives up (its stack or its
   count of steps is used up) is no match: whoever asks has a slower way for all that is not one. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Of the compiled code's stack: grown only by patterns that have ways back to remember. */
#define STACK_FIRST (32 * 1024)
#define STACK_MOST (512 * 1024)

typedef struct {
    PyTypeObject *pattern;
    PyTypeObject *match;
} State;

typedef int Run(const pcre2_code *, PCRE2_SPTR, PCRE2_SIZE, PCRE2_SIZE, uint32_t,
                pcre2_match_data *, pcre2_match_context *);

typedef struct {
    PyObject_HEAD
    Run *run; /* the quicker one does not check what is always so here */
    pcre2_code *code;
    pcre2_match_data *data; /* where each match leaves its offsets */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    PyTypeObject *match;
    Py_ssize_t offsets;  /* two for the whole and for each group */
} Pattern;

typedef struct {
    PyObject_VAR_HEAD
    PyObject *subject;
    PCRE2_SIZE at[]; /* where the whole and each group begin and end */
} Match;

/* ── a match ─────────────────────────────────────────────────────────────────────────────────── */

static void match_dealloc(Match *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(self->subject);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The bytes of a group; `otherwise` (borrowed) where it is not set. */
static PyObject *cut(const char *bytes, const PCRE2_SIZE *pair, PyObject *otherwise)
{
    if (pair[0] == PCRE2_UNSET)
        return Py_NewRef(otherwise);
    return PyBytes_FromStringAndSize(bytes + pair[0], (Py_ssize_t)(pair[1] - pair[0]));
}

static PyObject *groups_of(Match *self, PyObject *otherwise)
{
    const char *bytes = PyBytes_AS_STRING(self->subject);
    Py_ssize_t pairs = Py_SIZE(self) / 2;
    PyObject *found = PyTuple_New(pairs - 1);
    if (found == NULL)
        return NULL;
    for (Py_ssize_t group = 1; group < pairs; group++) {
        PyObject *one = cut(bytes, self->at + 2 * group, otherwise);
        if (one == NULL) {
            Py_DECREF(found);
            return NULL;
        }
        PyTuple_SET_ITEM(found, group - 1, one);
    }
    return found;
}

static PyObject *match_groups(Match *self, PyObject *Py_UNUSED(ignored))
{
    return groups_of(self, Py_None);
}

/* Where the offsets of a group stand, or NULL and an exception. */
static const PCRE2_SIZE *pair_of(Match *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t group = 0;
    if (count > 1) {
        PyErr_Format(PyExc_TypeError, "one group at most, not %zd", count);
        return NULL;
    }
    if (count == 1) {
        group = PyLong_AsSsize_t(args[0]);
        if (group == -1 && PyErr_Occurred())
            return NULL;
    }
    if (group < 0 || group >= Py_SIZE(self) / 2) {
        PyErr_SetString(PyExc_IndexError, "no such group");
        return NULL;
    }
    return self->at + 2 * group;
}

static PyObject *match_span(Match *self, PyObject *const *args, Py_ssize_t count)
{
    const PCRE2_SIZE *pair = pair_of(self, args, count);
    if (pair == NULL)
        return NULL;
    /* PCRE2_UNSET is all ones: as a signed number -1, which is what `re` says too. */
    return Py_BuildValue("(nn)", (Py_ssize_t)pair[0], (Py_ssize_t)pair[1]);
}

static PyObject *match_end(Match *self, PyObject *const *args, Py_ssize_t count)
{
    const PCRE2_SIZE *pair = pair_of(self, args, count);
    return pair == NULL ? NULL : PyLong_FromSsize_t((Py_ssize_t)pair[1]);
}

static PyMethodDef match_methods[] = {
    {"groups", (PyCFunction)match_groups, METH_NOARGS, "The bytes of each group; None: not set."},
    {"span", (PyCFunction)(void (*)(void))match_span, METH_FASTCALL, "Where a group begins and ends."},
    {"end", (PyCFunction)(void (*)(void))match_end, METH_FASTCALL, "Where a group ends."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot match_slots[] = {
    {Py_tp_dealloc, match_dealloc},
    {Py_tp_methods, match_methods},
    {Py_tp_doc, "What a pattern has matched."},
    {0, NULL},
};

static PyType_Spec match_spec = {
    .name = "rawproxy.protocol._pcre2.Match",
    .basicsize = sizeof(Match),
    .itemsize = sizeof(PCRE2_SIZE),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = match_slots,
};

/* ── a pattern ───────────────────────────────────────────────────────────────────────────────── */

static void pattern_dealloc(Pattern *self)
{
    PyTypeObject *type = Py_TYPE(self);
    pcre2_match_data_free(self->data); /* each of them takes NULL */
    pcre2_match_context_free(self->context);
    pcre2_jit_stack_free(self->stack);
    pcre2_code_free(self->code);
    Py_DECREF(self->match);
    type->tp_free(self);
    Py_DECREF(type);
}

/* The subject itself (a new reference) where it cannot change, else a copy. */
static PyObject *fixed(PyObject *subject)
{
    if (PyBytes_Check(subject))
        return Py_NewRef(subject);
    if (!PyObject_CheckBuffer(subject)) {
        PyErr_Format(PyExc_TypeError, "bytes are matched, not %s", Py_TYPE(subject)->tp_name);
        return NULL;
    }
    return PyBytes_FromObject(subject);
}

/* The next match of `subject`, which is bytes; NULL without an exception where there is none. */
static Match *next_match(Pattern *self, PyObject *subject, Py_ssize_t at)
{
    if (self->run(self->code, (PCRE2_SPTR)PyBytes_AS_STRING(subject),
                  (PCRE2_SIZE)PyBytes_GET_SIZE(subject), (PCRE2_SIZE)at, 0, self->data,
                  self->context) <= 0)
        return NULL;
    /* From here to the copy nothing may run that could use this pattern. */
    Match *found = PyObject_NewVar(Match, self->match, self->offsets);
    if (found != NULL) {
        const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(self->data);
        memcpy(found->at, offsets, (size_t)self->offsets * sizeof(PCRE2_SIZE));
        found->subject = Py_NewRef(subject);
    }
    return found;
}

static PyObject *pattern_match(Pattern *self, PyObject *const *args, Py_ssize_t count)
{
    if (count < 1 || count > 2) {
        PyErr_Format(PyExc_TypeError, "bytes and a place in them, not %zd arguments", count);
        return NULL;
    }
    Py_ssize_t at = count == 2 ? PyLong_AsSsize_t(args[1]) : 0;
    if (at == -1 && PyErr_Occurred())
        return NULL;
    PyObject *subject = fixed(args[0]);
    if (subject == NULL)
        return NULL;
    Py_ssize_t size = PyBytes_GET_SIZE(subject);
    PyObject *found = (PyObject *)next_match(self, subject, at < 0 ? 0 : at > size ? size : at);
    Py_DECREF(subject);
    return found != NULL || PyErr_Occurred() ? found : Py_NewRef(Py_None);
}

static PyObject *pattern_findall(Pattern *self, PyObject *given)
{
    uint32_t empty = 0;
    pcre2_pattern_info(self->code, PCRE2_INFO_MATCHEMPTY, &empty);
    if (empty || self->offsets < 6) {
        PyErr_SetString(PyExc_ValueError, "only of several groups, and not of nothing");
        return NULL;
    }
    PyObject *subject = fixed(given);
    PyObject *all = subject == NULL ? NULL : PyList_New(0);
    PyObject *unset = all == NULL ? NULL : PyBytes_FromStringAndSize("", 0);
    Py_ssize_t at = 0;
    while (unset != NULL) {
        Match *found = next_match(self, subject, at);
        if (found == NULL)
            break;
        at = (Py_ssize_t)found->at[1];
        PyObject *groups = groups_of(found, unset);
        Py_DECREF(found);
        int failed = groups == NULL || PyList_Append(all, groups) < 0;
        Py_XDECREF(groups);
        if (failed)
            break;
    }
    Py_XDECREF(unset);
    Py_XDECREF(subject);
    if (PyErr_Occurred())
        Py_CLEAR(all);
    return all;
}

static PyObject *pattern_jit(Pattern *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(self->run == pcre2_jit_match);
}

static PyMethodDef pattern_methods[] = {
    {"match", (PyCFunction)(void (*)(void))pattern_match, METH_FASTCALL, "The next match."},
    {"findall", (PyCFunction)pattern_findall, METH_O, "The groups of every match."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef pattern_getset[] = {
    {"jit", (getter)pattern_jit, NULL, "Whether it has become machine code.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot pattern_slots[] = {
    {Py_tp_dealloc, pattern_dealloc},
    {Py_tp_methods, pattern_methods},
    {Py_tp_getset, pattern_getset},
    {Py_tp_doc, "A compiled pattern."},
    {0, NULL},
};

static PyType_Spec pattern_spec = {
    .name = "rawproxy.protocol._pcre2.Pattern",
    .basicsize = sizeof(Pattern),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = pattern_slots,
};

/* ── the module ──────────────────────────────────────────────────────────────────────────────── */

static pcre2_code *code_of(const char *text, Py_ssize_t size)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (context == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF); /* as `re`, whatever the library was built with */
    int error;
    PCRE2_SIZE place;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, (PCRE2_SIZE)size, 0, &error, &place, context);
    pcre2_compile_context_free(context);
    if (code == NULL) {
        PCRE2_UCHAR reason[256] = "";
        pcre2_get_error_message(error, reason, sizeof(reason));
        PyErr_Format(PyExc_ValueError, "%s at position %zu of the pattern", (char *)reason, place);
    }
    return code;
}

static PyObject *compile(PyObject *module, PyObject *text)
{
    State *state = PyModule_GetState(module);
    if (!PyBytes_Check(text)) {
        PyErr_Format(PyExc_TypeError, "a pattern is bytes, not %s", Py_TYPE(text)->tp_name);
        return NULL;
    }
    Pattern *made = PyObject_New(Pattern, state->pattern);
    if (made == NULL)
        return NULL;
    made->data = NULL;
    made->context = NULL;
    made->stack = NULL;
    made->match = (PyTypeObject *)Py_NewRef(state->match);
    made->run = pcre2_match;
    made->code = code_of(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text));
    if (made->code == NULL)
        goto failed;
    uint32_t groups = 0;
    pcre2_pattern_info(made->code, PCRE2_INFO_CAPTURECOUNT, &groups);
    made->offsets = 2 * ((Py_ssize_t)groups + 1);
    made->data = pcre2_match_data_create_from_pattern(made->code, NULL);
    made->context = pcre2_match_context_create(NULL);
    made->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, NULL);
    if (made->data == NULL || made->context == NULL) {
        PyErr_NoMemory();
        goto failed;
    }
    /* Where memory may not become code, PCRE2 interprets the pattern: slower, the same answers. */
    if (made->stack != NULL && pcre2_jit_compile(made->code, PCRE2_JIT_COMPLETE) == 0) {
        pcre2_jit_stack_assign(made->context, NULL, made->stack);
        made->run = pcre2_jit_match;
    }
    return (PyObject *)made;
failed:
    Py_DECREF(made);
    return NULL;
}

static int fill(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->pattern = (PyTypeObject *)PyType_FromModuleAndSpec(module, &pattern_spec, NULL);
    state->match = (PyTypeObject *)PyType_FromModuleAndSpec(module, &match_spec, NULL);
    if (state->pattern == NULL || state->match == NULL)
        return -1;
    char version[64] = ""; /* PCRE2_CONFIG_VERSION: 24 suffice */
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    char *date = strchr(version, ' ');
    if (date != NULL)
        *date = '\0';
    return PyModule_AddStringConstant(module, "VERSION", version);
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->pattern);
    Py_VISIT(state->match);
    return 0;
}

static int clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->pattern);
    Py_CLEAR(state->match);
    return 0;
}

static PyMethodDef functions[] = {
    {"compile", compile, METH_O, "A pattern. Raises ValueError."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "_pcre2",
    .m_doc = "PCRE2, as far as regex.py needs it.",
    .m_size = sizeof(State),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__pcre2(void)
{
    return PyModuleDef_Init(&definition);
}
