/* The least that many small arrays or tensors take: the objects alone, over memory that is there,
 * made in a loop of C and put into a dict by name. objects.py compiles and calls it.
 */
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#include <numpy/arrayobject.h>

/* The text of a name, which a loader makes too. */
static PyObject *name_of(Py_ssize_t number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "layers.%zd.weight", number);
    return PyUnicode_DecodeUTF8(text, length, NULL);
}

/* Takes both references over. */
static int put(PyObject *dict, PyObject *name, PyObject *object)
{
    int failed = name == NULL || object == NULL || PyDict_SetItem(dict, name, object) < 0;
    Py_XDECREF(name);
    Py_XDECREF(object);
    return failed;
}

/* arrays(memory, count, bytes): float32 arrays over a writable buffer, which all of them keep. */
static PyObject *arrays(PyObject *self, PyObject *arguments)
{
    PyObject *memory;
    Py_ssize_t count, bytes;
    Py_buffer view;
    if (!PyArg_ParseTuple(arguments, "Onn", &memory, &count, &bytes) ||
        PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    PyObject *dict = PyDict_New();
    PyArray_Descr *dtype = PyArray_DescrFromType(NPY_FLOAT32);
    npy_intp shape[1] = {bytes / 4};
    for (Py_ssize_t number = 0; number < count; number++) {
        Py_INCREF(dtype);
        PyObject *array = PyArray_NewFromDescr(&PyArray_Type, dtype, 1, shape, NULL,
                                               (char *)view.buf + number * bytes,
                                               NPY_ARRAY_WRITEABLE, NULL);
        if (array != NULL) {
            Py_INCREF(memory);
            PyArray_SetBaseObject((PyArrayObject *)array, memory);
        }
        if (put(dict, name_of(number), array))
            Py_CLEAR(dict);
        if (dict == NULL)
            break;
    }
    Py_DECREF(dtype);
    PyBuffer_Release(&view);
    return dict;
}

#ifdef WITH_TORCH
#include <ATen/dlpack.h>

static void keep(DLManagedTensorVersioned *tensor) { (void)tensor; }

/* tensors(exchange, memory, count, bytes): tensors by DLPack's exchange function; the caller keeps
 * the memory, and what describes the tensors is never freed.
 */
static PyObject *tensors(PyObject *self, PyObject *arguments)
{
    PyObject *capsule, *memory;
    Py_ssize_t count, bytes;
    Py_buffer view;
    if (!PyArg_ParseTuple(arguments, "OOnn", &capsule, &memory, &count, &bytes))
        return NULL;
    DLPackExchangeAPI *api = PyCapsule_GetPointer(capsule, "dlpack_exchange_api");
    if (api == NULL || PyObject_GetBuffer(memory, &view, PyBUF_WRITABLE) < 0)
        return NULL;
    PyObject *dict = PyDict_New();
    DLManagedTensorVersioned *all = calloc(count, sizeof *all);
    int64_t *sizes = malloc(2 * sizeof *sizes);
    sizes[0] = bytes / 4;
    sizes[1] = 1;
    for (Py_ssize_t number = 0; number < count; number++) {
        DLManagedTensorVersioned *one = &all[number];
        one->version.major = 1;
        one->deleter = keep;
        one->dl_tensor.data = (char *)view.buf + number * bytes;
        one->dl_tensor.device.device_type = kDLCPU;
        one->dl_tensor.ndim = 1;
        one->dl_tensor.dtype = (DLDataType){kDLFloat, 32, 1};
        one->dl_tensor.shape = &sizes[0];
        one->dl_tensor.strides = &sizes[1];
        void *tensor = NULL;
        if (api->managed_tensor_to_py_object_no_sync(one, &tensor) ||
            put(dict, name_of(number), tensor)) {
            Py_CLEAR(dict);
            break;
        }
    }
    PyBuffer_Release(&view);
    return dict;
}
#endif

static PyMethodDef methods[] = {
    {"arrays", arrays, METH_VARARGS, NULL},
#ifdef WITH_TORCH
    {"tensors", tensors, METH_VARARGS, NULL},
#endif
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "floor", NULL, -1, methods};

PyMODINIT_FUNC PyInit_floor(void)
{
    import_array();
    return PyModule_Create(&module);
}
